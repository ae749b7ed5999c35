/*
 * err: our own error codes, their text and the Kafka code a client sees, from err.def.
 *
 * MR_OK is 0. MR_AGAIN is ordinary flow, not a failure. Kafka codes are made in handlers only,
 * with mr_err_kafka().
 */
#ifndef MILLRACE_BASE_ERR_H
#define MILLRACE_BASE_ERR_H

#include <stdint.h>

enum mr_err {
#define ERR(name_, kafka_, text_) MR_##name_,
#include "millrace/base/err.def"
#undef ERR
    MR_ERR_COUNT_
};

/* Kafka's error code (as on the wire) for one of ours; -1 UNKNOWN_SERVER_ERROR where none fits. */
static inline int16_t mr_err_kafka(enum mr_err err)
{
    static const int16_t codes[] = {
#define ERR(name_, kafka_, text_) (kafka_),
#include "millrace/base/err.def"
#undef ERR
    };
    return (unsigned)err < (unsigned)MR_ERR_COUNT_ ? codes[err] : (int16_t)-1;
}

/* A constant sentence for logs; never NULL. */
static inline const char *mr_err_text(enum mr_err err)
{
    static const char *const texts[] = {
#define ERR(name_, kafka_, text_) text_,
#include "millrace/base/err.def"
#undef ERR
    };
    return (unsigned)err < (unsigned)MR_ERR_COUNT_ ? texts[err] : "unknown error";
}

#endif
