/*
 * fuzz_main: stands in for libFuzzer under gcc: runs the target over the files of its corpus, and over some mutations
 * of each where the target has a mutator of its own.
 *
 *   fuzz_x PATH...     each a file, or a directory whose files are taken
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUTATIONS     20u
#define MUTATION_ROOM 4096u

int    LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed) __attribute__((weak));

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max)
{
    if (size == 0 && size_max > 0) {
        data[0] = 0;
        return 1;
    }
    data[size / 2] ^= 0x11;
    return size;
}

static void run_mutations(const uint8_t *data, size_t size)
{
    size_t   max = size + MUTATION_ROOM;
    uint8_t *mutated = malloc(max);
    memcpy(mutated, data, size);
    for (unsigned seed = 0; seed < MUTATIONS; seed++) {
        size = LLVMFuzzerCustomMutator(mutated, size, max, seed);
        uint8_t *exact = malloc(size > 0 ? size : 1);
        memcpy(exact, mutated, size);
        (void)LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    free(mutated);
}

/* Every input in a block of exactly its size, so that the address sanitizer guards the end. */
static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        return 1;
    }
    long     size = ftell(file);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    rewind(file);
    if (size < 0 || data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) {
        perror(path);
        return 1;
    }
    fclose(file);
    (void)LLVMFuzzerTestOneInput(data, (size_t)size);
    if (LLVMFuzzerCustomMutator != NULL) {
        run_mutations(data, (size_t)size);
    }
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int index = 1; index < argc; index++) {
        DIR *directory = opendir(argv[index]);
        if (directory == NULL) {
            count++;
            if (run_file(argv[index]) != 0) {
                return 1;
            }
            continue;
        }
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            char path[4096];
            if (entry->d_name[0] == '.') {
                continue;
            }
            snprintf(path, sizeof path, "%s/%s", argv[index], entry->d_name);
            count++;
            if (run_file(path) != 0) {
                return 1;
            }
        }
        closedir(directory);
    }
    printf("%d inputs\n", count);
    return count > 0 ? 0 : 1; /* an empty corpus proves nothing */
}
