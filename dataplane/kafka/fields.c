/*
 * fields: defaults, presence and sizes of single fields.
 */
#include "kafka/fields.h"

/* Whether every field of the struct has its default. */
static bool is_empty(const struct mr_struct *desc, const uint8_t *in)
{
    for (uint32_t index = 0; index < desc->field_count; index++) {
        if (!mr_fields_is_default(&desc->fields[index], in)) {
            return false;
        }
    }
    return true;
}

bool mr_fields_is_default(const struct mr_field *field, const uint8_t *in)
{
    const uint8_t *at = in + field->offset;
    switch ((enum mr_kind)field->kind) {
    case MR_KIND_BOOL:
        return *(const bool *)at == (field->default_value != 0);
    case MR_KIND_INT8:
        return *(const int8_t *)at == field->default_value;
    case MR_KIND_INT16:
        return *(const int16_t *)(const void *)at == field->default_value;
    case MR_KIND_UINT16:
        return *(const uint16_t *)(const void *)at == field->default_value;
    case MR_KIND_INT32:
        return *(const int32_t *)(const void *)at == field->default_value;
    case MR_KIND_UINT32:
        return *(const uint32_t *)(const void *)at == field->default_value;
    case MR_KIND_INT64:
        return *(const int64_t *)(const void *)at == field->default_value;
    case MR_KIND_FLOAT64: {
        double value = *(const double *)(const void *)at;
        return !(value < 0.0) && !(value > 0.0) && value == value;
    }
    case MR_KIND_UUID:
        return mr_uuid_is_zero((const struct mr_uuid *)at);
    case MR_KIND_STRING:
        return ((const struct mr_str *)(const void *)at)->len ==
               (field->is_null_by_default ? -1 : 0);
    case MR_KIND_BYTES:
        return ((const struct mr_blob *)(const void *)at)->len ==
               (field->is_null_by_default ? -1 : 0);
    case MR_KIND_RECORDS:
        return ((const struct mr_chain *)(const void *)at)->spans == NULL;
    case MR_KIND_ARRAY:
        return *(const int32_t *)(const void *)(in + field->count_offset) ==
               (field->is_null_by_default ? -1 : 0);
    case MR_KIND_MAYBE: {
        const uint8_t *sub = *(const uint8_t *const *)(const void *)at;
        return mr_fields_is_empty_by_default(field) ? sub != NULL && is_empty(field->sub, sub)
                                                    : sub == NULL;
    }
    case MR_KIND_ONE:
        return is_empty(field->sub, at);
    }
    mr_unreachable("no such kind");
}

uint32_t mr_fields_item_size(const struct mr_field *field)
{
    switch ((enum mr_kind)field->item_kind) {
    case MR_KIND_BOOL:
    case MR_KIND_INT8:
        return 1;
    case MR_KIND_INT16:
    case MR_KIND_UINT16:
        return 2;
    case MR_KIND_INT32:
    case MR_KIND_UINT32:
        return 4;
    case MR_KIND_INT64:
    case MR_KIND_FLOAT64:
        return 8;
    case MR_KIND_UUID:
        return sizeof(struct mr_uuid);
    case MR_KIND_STRING:
        return sizeof(struct mr_str);
    case MR_KIND_BYTES:
        return sizeof(struct mr_blob);
    case MR_KIND_ONE:
        return field->sub->size;
    case MR_KIND_RECORDS:
    case MR_KIND_ARRAY:
    case MR_KIND_MAYBE:
        break;
    }
    mr_unreachable("no array of these");
}
