#include "sim_swarm.h"

#include "millrace/base/fmt.h"
#include "millrace/base/hash.h"

#include <string.h>

static const struct {
    const char *name;
    uint32_t    chance;
    const char *what;
} rows[] = {
#define TROUBLE(name_, chance_, text_) {.name = #name_, .chance = (chance_), .what = (text_)},
#include "sim_trouble.def"
#undef TROUBLE
};

void mr_sim_swarm_init(struct mr_sim_swarm *swarm, uint64_t seed, uint64_t only)
{
    *swarm = (struct mr_sim_swarm){.on = 0};
    for (uint32_t index = 0; index < MR_SIM_TROUBLE_COUNT; index++) {
        /* By name, not by place: a new row changes no other class. */
        uint64_t name = 0;
        for (const char *at = rows[index].name; *at != '\0'; at++) {
            name = mr_hash_u64(name ^ (uint8_t)*at);
        }
        swarm->streams[index].state = mr_hash_u64(seed) ^ name;
        if (mr_prng_below(&swarm->streams[index], 8) < rows[index].chance) {
            swarm->on |= 1ull << index;
        }
    }
    if (only != MR_SIM_TROUBLE_ANY) {
        swarm->on = only;
    }
}

bool mr_sim_swarm_has(const struct mr_sim_swarm *swarm, enum mr_sim_trouble trouble)
{
    return (swarm->on >> trouble & 1u) != 0;
}

bool mr_sim_swarm_hits(struct mr_sim_swarm *swarm, enum mr_sim_trouble trouble, uint64_t one_in)
{
    return !swarm->is_calm && mr_sim_swarm_has(swarm, trouble) &&
           mr_prng_below(&swarm->streams[trouble], one_in) == 0;
}

uint64_t mr_sim_swarm_draw(struct mr_sim_swarm *swarm, enum mr_sim_trouble trouble, uint64_t bound)
{
    return mr_prng_below(&swarm->streams[trouble], bound);
}

void mr_sim_swarm_text(uint64_t on, char *out, uint32_t size)
{
    struct mr_text text;
    mr_text_init(&text, out, size);
    for (uint32_t index = 0; index < MR_SIM_TROUBLE_COUNT; index++) {
        if ((on >> index & 1u) != 0) {
            mr_text_fmt(&text, "%s%s", text.len == 0 ? "" : ",", rows[index].name);
        }
    }
    if (text.len == 0) {
        mr_text_fmt(&text, "nothing");
    }
}

bool mr_sim_swarm_parse(const char *text, uint64_t *on)
{
    *on = 0;
    if (strcmp(text, "nothing") == 0) {
        return true;
    }
    for (;;) {
        size_t   len = strcspn(text, ",");
        uint32_t index = 0;
        while (index < MR_SIM_TROUBLE_COUNT &&
               (strlen(rows[index].name) != len || memcmp(rows[index].name, text, len) != 0)) {
            index++;
        }
        if (index == MR_SIM_TROUBLE_COUNT) {
            return false;
        }
        *on |= 1ull << index;
        if (text[len] == '\0') {
            return true;
        }
        text += len + 1;
    }
}

const char *mr_sim_swarm_name(enum mr_sim_trouble trouble)
{
    return rows[trouble].name;
}

const char *mr_sim_swarm_what(enum mr_sim_trouble trouble)
{
    return rows[trouble].what;
}
