/*
 * fields: what encoding and printing both ask of a field of a struct in memory.
 */
#ifndef MILLRACE_FIELDS_H
#define MILLRACE_FIELDS_H

#include "millrace/kafka/msg.h"

static inline bool mr_fields_has(const struct mr_field *field, int16_t version)
{
    return field->since <= version && version <= field->until;
}

/* Whether the field of the struct at `in` has the default that a reader would give it. */
bool mr_fields_is_default(const struct mr_field *field, const uint8_t *in);

/* Whether the field may be left out in a version that lacks it: MR_ERR_UNSUPPORTED_FIELD if not. */
static inline enum mr_err mr_fields_check_absent(const struct mr_field *field, const uint8_t *in)
{
    return field->is_ignorable || mr_fields_is_default(field, in) ? MR_OK
                                                                  : MR_ERR_UNSUPPORTED_FIELD;
}

/* Whether `version` has a null for the field. */
static inline bool mr_fields_null_ok(const struct mr_field *field, int16_t version)
{
    return field->is_nullable && field->nullable_since <= version;
}

/*
 * A nullable struct in a tag: what is not there is an empty struct, so null is written, as a
 * zero; elsewhere what is not there is null, and null is a minus one.
 */
static inline bool mr_fields_is_empty_by_default(const struct mr_field *field)
{
    return field->kind == MR_KIND_MAYBE && field->is_tagged;
}

#endif
