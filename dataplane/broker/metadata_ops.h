/*
 * metadata_ops: what a client may do, as bits by operation code, while there is no authorizer:
 * everything that the kind of resource knows. Source: behaviour of Apache Kafka 4.4.
 */
#ifndef MILLRACE_METADATA_OPS_H
#define MILLRACE_METADATA_OPS_H

#include "millrace/kafka/api.h"

#define MR_METADATA_TOPIC_OPS                                                     \
    (1 << MR_OP_READ | 1 << MR_OP_WRITE | 1 << MR_OP_CREATE | 1 << MR_OP_DELETE | \
     1 << MR_OP_ALTER | 1 << MR_OP_DESCRIBE | 1 << MR_OP_DESCRIBE_CONFIGS |       \
     1 << MR_OP_ALTER_CONFIGS)
#define MR_METADATA_CLUSTER_OPS                                                               \
    (1 << MR_OP_CREATE | 1 << MR_OP_ALTER | 1 << MR_OP_DESCRIBE | 1 << MR_OP_CLUSTER_ACTION | \
     1 << MR_OP_DESCRIBE_CONFIGS | 1 << MR_OP_ALTER_CONFIGS | 1 << MR_OP_IDEMPOTENT_WRITE)

#endif
