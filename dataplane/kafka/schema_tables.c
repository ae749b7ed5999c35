/*
 * schema_tables: the second reading of the rows: constant tables for the interpreter.
 */
#include "millrace/kafka/msg.h"

#include <stddef.h>

#define AT(member_) ((uint16_t)offsetof(struct MR_CAT(mr_, SELF), member_))

/* Attributes of a row: designated initialisers, so that each names what it says. A later one may
 * override the presence that every row states first; nothing does today. */
#define ALWAYS            .since = 0, .until = INT16_MAX
#define SINCE(a_)         .since = (a_), .until = INT16_MAX
#define UNTIL(b_)         .since = 0, .until = (b_)
#define BETWEEN(a_, b_)   .since = (a_), .until = (b_)
#define NEVER             .since = 1, .until = 0
#define TAG(tag_)         .is_tagged = true, .tag = (tag_)
#define NULLABLE(a_)      .is_nullable = true, .nullable_since = (a_)
#define DEFAULT(value_)   .default_value = (value_)
#define DEFAULT_NULL      .is_null_by_default = true
#define IGNORABLE         .is_ignorable = true
#define NEVER_COMPACT     .is_never_compact = true
#define KEY(key_)         .key = (key_)
#define VERSIONS(a_, b_)  .version_min = (a_), .version_max = (b_)
#define FLEXIBLE(a_)      .flexible_since = (a_)
#define NEVER_FLEXIBLE    .flexible_since = INT16_MAX

#define STRUCT static const struct mr_field MR_CAT(SELF, _fields)[] = {
#define FIELD(kind_, name_, ...)                                                                   \
    {.name = #name_, .kind = MR_KIND_##kind_, .offset = AT(name_), __VA_ARGS__},
#define ARRAY_OF(kind_, name_, ...)                                                                \
    {.name = #name_, .kind = MR_KIND_ARRAY, .item_kind = MR_KIND_##kind_, .offset = AT(name_),     \
     .count_offset = AT(name_##_count), __VA_ARGS__},
#define ARRAY(item_, name_, ...)                                                                   \
    {.name = #name_, .kind = MR_KIND_ARRAY, .item_kind = MR_KIND_ONE,                              \
     .sub = &mr_struct_##item_, .offset = AT(name_), .count_offset = AT(name_##_count),            \
     __VA_ARGS__},
#define ONE(sub_, name_, ...)                                                                      \
    {.name = #name_, .kind = MR_KIND_ONE, .sub = &mr_struct_##sub_, .offset = AT(name_),           \
     __VA_ARGS__},
#define MAYBE(sub_, name_, ...)                                                                    \
    {.name = #name_, .kind = MR_KIND_MAYBE, .sub = &mr_struct_##sub_, .offset = AT(name_),         \
     .is_null_by_default = true, __VA_ARGS__},
#define END                                                                                        \
    }                                                                                              \
    ;                                                                                              \
    const struct mr_struct MR_CAT(mr_struct_, SELF) = {                                            \
        .name = MR_TEXT(SELF),                                                                     \
        .fields = MR_CAT(SELF, _fields),                                                           \
        .field_count = (uint16_t)(sizeof MR_CAT(SELF, _fields) / sizeof(struct mr_field)),         \
        .size = (uint16_t)sizeof(struct MR_CAT(mr_, SELF)),                                        \
    };                                                                                             \
    _Static_assert(sizeof(struct MR_CAT(mr_, SELF)) <= UINT16_MAX, "offsets are 16 bits");
#define MESSAGE(name_, sort_, key_, versions_, flexible_)                                          \
    const struct mr_msg MR_CAT(mr_msg_, SELF) = {.name = (name_),                                  \
                                                 .root = &MR_CAT(mr_struct_, SELF),                \
                                                 .sort = MR_MSG_##sort_,                           \
                                                 key_,                                             \
                                                 versions_,                                        \
                                                 flexible_};
#define MR_TEXT_(text_) #text_
#define MR_TEXT(text_)  MR_TEXT_(text_)

#include "millrace/kafka/schema/all.def"

/* Once more for the list of messages: all rows but MESSAGE vanish. */
#undef STRUCT
#undef FIELD
#undef ARRAY_OF
#undef ARRAY
#undef ONE
#undef MAYBE
#undef END
#undef MESSAGE
#define STRUCT
#define FIELD(...)
#define ARRAY_OF(...)
#define ARRAY(...)
#define ONE(...)
#define MAYBE(...)
#define END
#define MESSAGE(...) &MR_CAT(mr_msg_, SELF),

const struct mr_msg *const mr_msg_all[] = {
#include "millrace/kafka/schema/all.def"
};

const uint32_t mr_msg_count = (uint32_t)(sizeof mr_msg_all / sizeof mr_msg_all[0]);

/* For dumps and recovery, not per request: requests find their descriptor in the API's row. */
const struct mr_msg *mr_msg_find(enum mr_msg_sort sort, int16_t key)
{
    for (uint32_t index = 0; index < mr_msg_count; index++) {
        const struct mr_msg *msg = mr_msg_all[index];
        if (msg->sort == sort && msg->key == key && key >= 0) {
            return msg;
        }
    }
    return NULL;
}

const struct mr_msg *mr_msg_find_name(struct mr_str name)
{
    for (uint32_t index = 0; index < mr_msg_count; index++) {
        if (mr_str_equal(mr_str(mr_msg_all[index]->name), name)) {
            return mr_msg_all[index];
        }
    }
    return NULL;
}
