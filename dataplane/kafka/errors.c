/*
 * errors: names of Kafka's error codes.
 */
#include "millrace/kafka/errors.h"

#include <stddef.h>

#define RETRIABLE true
#define FINAL     false

static const struct {
    const char *name;
    int16_t     code;
    bool        is_retriable;
} rows[] = {
#define KAFKA_ERROR(code_, NAME_, retry_)                                                          \
    {.name = #NAME_, .code = (code_), .is_retriable = (retry_)},
#include "millrace/kafka/errors.def"
#undef KAFKA_ERROR
};

#define ROW_COUNT (sizeof rows / sizeof rows[0])

const char *mr_errors_name(int16_t code)
{
    for (size_t index = 0; index < ROW_COUNT; index++) {
        if (rows[index].code == code) {
            return rows[index].name;
        }
    }
    return "?";
}

bool mr_errors_is_retriable(int16_t code)
{
    for (size_t index = 0; index < ROW_COUNT; index++) {
        if (rows[index].code == code) {
            return rows[index].is_retriable;
        }
    }
    return false;
}
