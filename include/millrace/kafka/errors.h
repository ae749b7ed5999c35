/*
 * errors: Kafka's error codes as clients see them (errors.def).
 *
 * Only handlers make these; everything below them speaks enum mr_err, which mr_err_kafka() turns
 * into a code.
 */
#ifndef MILLRACE_KAFKA_ERRORS_H
#define MILLRACE_KAFKA_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

/* Fits int16_t, the type of every error_code field. */
enum mr_kafka_error {
#define KAFKA_ERROR(code_, NAME_, retry_) MR_KAFKA_##NAME_ = (code_),
#include "millrace/kafka/errors.def"
#undef KAFKA_ERROR
};

/* Kafka's name of a code, for logs and dumps; "?" for a number that is none. */
const char *mr_errors_name(int16_t code);

/* Whether Kafka's Java client tries again after it; false for a number that is none. */
bool mr_errors_is_retriable(int16_t code);

#endif
