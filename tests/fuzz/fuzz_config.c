/*
 * fuzz_config: any bytes as a server.properties, then as KEY=VALUE: loaded, or refused with a message.
 */
#include "boot/config_load.h"
#include "millrace/base/assert.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (4u << 20)
#define TEXT_MAX    (64u << 10)

static uint32_t refusals;

static void say(void *user, enum mr_config_say kind, const char *line)
{
    (void)user;
    mr_assert(line[0] != '\0' && strlen(line) < MR_CONFIG_LINE_MAX);
    refusals += kind == MR_CONFIG_SAY_REFUSAL;
}

static void must_say_why(bool is_loaded)
{
    mr_assert(is_loaded == (refusals == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_arena arena;
    static struct mr_config config;
    if (arena.base == NULL) {
        mr_arena_init(&arena, malloc(ARENA_BYTES), ARENA_BYTES);
    }
    if (size > TEXT_MAX) {
        return 0;
    }
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    struct mr_config_load load = {.config = &config, .arena = &arena, .say = say};
    mr_arena_reset(&arena);
    refusals = 0;
    mr_config_load_begin(&load);
    bool is_loaded = mr_config_load_text(&load, "server.properties", text, size);
    must_say_why(is_loaded);
    if (is_loaded) {
        must_say_why(mr_config_load_end(&load));
    }
    mr_arena_reset(&arena);
    refusals = 0;
    mr_config_load_begin(&load);
    must_say_why(mr_config_load_set(&load, text));
    free(text);
    return 0;
}
