/*
 * messages: the first reading of the rows: a C struct and a descriptor for every message.
 *
 * For each message `x` (schema.h says how names are made):
 *
 *      struct mr_x                          the values, in memory of the caller
 *      extern const struct mr_msg mr_msg_x  to decode, encode, print it (msg.h)
 *      MR_KEY_x, MR_MIN_x, MR_MAX_x         key and range of versions, as constants
 *
 * and for every struct, messages included, extern const struct mr_struct mr_struct_x, for
 * mr_struct_defaults(). Null is data == NULL and len -1 for strings and bytes, count -1 for arrays,
 * spans == NULL with bytes == 0 for records, NULL for structs.
 */
#ifndef MILLRACE_KAFKA_MESSAGES_H
#define MILLRACE_KAFKA_MESSAGES_H

#include "millrace/base/span.h"
#include "millrace/base/str.h"
#include "millrace/kafka/schema.h"

#define MR_CAT_(a_, b_) a_##b_
#define MR_CAT(a_, b_)  MR_CAT_(a_, b_)

#define MR_C_BOOL    bool
#define MR_C_INT8    int8_t
#define MR_C_INT16   int16_t
#define MR_C_UINT16  uint16_t
#define MR_C_INT32   int32_t
#define MR_C_UINT32  uint32_t
#define MR_C_INT64   int64_t
#define MR_C_FLOAT64 double
#define MR_C_UUID    struct mr_uuid
#define MR_C_STRING  struct mr_str
#define MR_C_BYTES   struct mr_blob
#define MR_C_RECORDS struct mr_chain

#define STRUCT struct MR_CAT(mr_, SELF) {
#define END                                                                                        \
    }                                                                                              \
    ;                                                                                              \
    extern const struct mr_struct MR_CAT(mr_struct_, SELF);
#define FIELD(kind_, name_, ...)    MR_C_##kind_ name_;
#define ARRAY_OF(kind_, name_, ...) MR_C_##kind_ *name_; int32_t name_##_count;
#define ARRAY(item_, name_, ...)    struct mr_##item_ *name_; int32_t name_##_count;
#define ONE(sub_, name_, ...)       struct mr_##sub_ name_;
#define MAYBE(sub_, name_, ...)     struct mr_##sub_ *name_;
#define KEY(key_)                   MR_CAT(MR_KEY_, SELF) = (key_)
#define VERSIONS(min_, max_)        MR_CAT(MR_MIN_, SELF) = (min_), MR_CAT(MR_MAX_, SELF) = (max_)
#define MESSAGE(name_, sort_, key_, versions_, flexible_)                                          \
    enum { key_, versions_ };                                                                      \
    extern const struct mr_msg MR_CAT(mr_msg_, SELF);

#include "millrace/kafka/schema/all.def"

#undef STRUCT
#undef END
#undef FIELD
#undef ARRAY_OF
#undef ARRAY
#undef ONE
#undef MAYBE
#undef KEY
#undef VERSIONS
#undef MESSAGE

#endif
