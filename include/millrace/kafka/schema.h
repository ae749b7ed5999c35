/*
 * schema: how a Kafka message is described: rows that become structs and tables.
 *
 * A row in schema/ (one file per request, response or family of records) is one field on the wire.
 * The rows are read twice: messages.h makes the structs, dataplane/kafka/schema_tables.c makes the
 * tables declared here. The interpreter (msg.h) knows only the tables.
 *
 *      #define SELF metadata_response_broker        struct mr_metadata_response_broker
 *      STRUCT                                       mr_struct_metadata_response_broker
 *          FIELD(INT32,  node_id, ALWAYS)
 *          FIELD(STRING, rack,    SINCE(1), NULLABLE(1), DEFAULT_NULL, IGNORABLE)
 *      END
 *      #undef SELF
 *
 *   rows        FIELD(kind, name, ...)           one value
 *               ARRAY_OF(kind, name, ...)        array of values: `name` and `name_count`
 *               ARRAY(struct, name, ...)         array of structs: `name` and `name_count`
 *               ONE(struct, name, ...)           one struct, embedded
 *               MAYBE(struct, name, ...)         one struct or null: a pointer
 *   presence    ALWAYS, SINCE(a), UNTIL(b), BETWEEN(a, b), NEVER: message versions, both inclusive
 *   TAG(n)      in the tagged section, written when it differs from its default (of a MAYBE: from
 *               an empty struct)
 *   NULLABLE(a) may be null from version a on
 *   DEFAULT(x), DEFAULT_NULL   else 0, false, empty
 *   IGNORABLE   dropped silently in a version without the field; others then must have the default
 *   NEVER_COMPACT              keeps the old encoding in flexible versions
 *   MESSAGE(name, sort, KEY(n), VERSIONS(a, b), FLEXIBLE(a))  makes the struct above it a message
 *
 * Names: a nested struct is called <message>_<Kafka's name>, or by Kafka's name alone where that
 * begins with the message's.
 */
#ifndef MILLRACE_KAFKA_SCHEMA_H
#define MILLRACE_KAFKA_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

/* Structs in structs: Kafka's deepest message has 4; an assertion holds new rows to it. */
#define MR_MSG_DEPTH_MAX 6

enum mr_kind {
    MR_KIND_BOOL,
    MR_KIND_INT8,
    MR_KIND_INT16,
    MR_KIND_UINT16,
    MR_KIND_INT32,
    MR_KIND_UINT32,
    MR_KIND_INT64,
    MR_KIND_FLOAT64,
    MR_KIND_UUID,    /* struct mr_uuid                                              */
    MR_KIND_STRING,  /* struct mr_str; copied when encoded                          */
    MR_KIND_BYTES,   /* struct mr_blob; copied when encoded                         */
    MR_KIND_RECORDS, /* struct mr_chain; never copied, in neither direction         */
    MR_KIND_ARRAY,   /* pointer and int32_t count; count -1 (pointer NULL) is null  */
    MR_KIND_ONE,     /* struct                                                      */
    MR_KIND_MAYBE,   /* pointer to struct, NULL is null                             */
};

struct mr_field {
    const char             *name;          /* C name; camelCase of it is Kafka's JSON name */
    const struct mr_struct *sub;           /* of ARRAY, ONE, MAYBE with structs, else NULL */
    int64_t                 default_value; /* of numbers and booleans                      */
    uint16_t                offset;        /* in the C struct                              */
    uint16_t                count_offset;  /* of arrays: where the count is                */
    int16_t                 since;         /* message versions that have the field         */
    int16_t                 until;
    int16_t                 nullable_since;
    int16_t                 tag;
    uint8_t                 kind;      /* enum mr_kind                                     */
    uint8_t                 item_kind; /* of arrays: kind of one item; ONE for structs     */
    bool                    is_tagged;
    bool                    is_nullable;
    bool                    is_null_by_default;
    bool                    is_ignorable;
    bool                    is_never_compact;
};

struct mr_struct {
    const char            *name;
    const struct mr_field *fields;
    uint16_t               field_count;
    uint16_t               size; /* of the C struct */
};

enum mr_msg_sort {
    MR_MSG_HEADER,
    MR_MSG_REQUEST,
    MR_MSG_RESPONSE,
    MR_MSG_METADATA_RECORD,
    MR_MSG_COORDINATOR_KEY,
    MR_MSG_COORDINATOR_VALUE,
    MR_MSG_DATA,
};

struct mr_msg {
    const char             *name; /* Kafka's, for example "ProduceRequest"            */
    const struct mr_struct *root;
    enum mr_msg_sort        sort;
    int16_t                 key; /* API key, record id or type; -1 where there is none */
    int16_t                 version_min;
    int16_t                 version_max;
    int16_t                 flexible_since; /* INT16_MAX: never                        */
};

#endif
