/*
 * wire_client: a client's side of the wire for tests: requests into bytes, answers out of bytes.
 *
 * Memory: static, overwritten by the next call of the same function. Thread: one.
 */
#ifndef MILLRACE_TESTS_WIRE_CLIENT_H
#define MILLRACE_TESTS_WIRE_CLIENT_H

#include "millrace/batch.h"
#include "millrace/kafka/messages.h"

#include <stdbool.h>
#include <stdint.h>

struct mr_sim_peer;

/* A batch without producer id: `records` records whose values are `value_bytes` zeros. */
struct mr_chain mr_wire_batch(uint32_t records, uint32_t value_bytes, int64_t unix_ms);

/* A request with its size prefix and header (client id "c"); the bytes, their number in `len`. */
const uint8_t *mr_wire_request(int16_t key, int16_t version, int32_t correlation, const void *in,
                               uint32_t *len);

/* The same of a Produce v9 that carries one batch. */
const uint8_t *mr_wire_produce(int32_t correlation, int16_t acks, struct mr_str topic,
                               int32_t partition, struct mr_chain records, uint32_t *len);

/*
 * The next answer that lies ready at `peer`, whole, decoded into `out`, the struct of the API's response;
 * false when there is none. What `out` points at lives until the next call.
 */
bool mr_wire_answer(struct mr_sim_peer *peer, int16_t key, int16_t version, int32_t *correlation,
                    void *out);

#endif
