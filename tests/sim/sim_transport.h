/*
 * sim_transport: a network in memory, driven by the test: connect, send bytes, take bytes, cut.
 *
 * Bytes are delivered to the broker in pieces of at most `piece_max`, so every boundary inside a frame is
 * met; replies are copied out when the test takes them, as the peer's acknowledgement, and only
 * then reported as sent: lent pages stay lent as long as a slow reader is slow.
 *
 * Memory: malloc, as tests may. Thread: one.
 */
#ifndef MILLRACE_TESTS_SIM_TRANSPORT_H
#define MILLRACE_TESTS_SIM_TRANSPORT_H

#include "millrace/net/transport.h"

#include <stdbool.h>
#include <stdint.h>

struct mr_sim_net;
struct mr_sim_peer;

struct mr_sim_net *mr_sim_net_create(uint64_t seed);
void mr_sim_net_destroy(struct mr_sim_net *net);
struct mr_transport *mr_sim_net_transport(struct mr_sim_net *net);

/* Bytes of one DATA event at most (default 4096), and whether sizes vary by seed. */
void mr_sim_net_pieces(struct mr_sim_net *net, uint32_t piece_max, bool is_random);

/* Pieces that send() queues per connection before it answers MR_AGAIN (default: no limit). */
void mr_sim_net_send_limit(struct mr_sim_net *net, uint32_t pieces);

/* NULL while the broker does not listen. `address` NULL: "127.0.0.1", which is loopback. */
struct mr_sim_peer *mr_sim_net_connect(struct mr_sim_net *net, const char *address);
void mr_sim_peer_free(struct mr_sim_peer *peer);

/* Queue bytes on their way to the broker. */
void mr_sim_peer_send(struct mr_sim_peer *peer, const void *bytes, uint32_t len);

/* Bytes that the broker has taken of those sent (window included). */
uint64_t mr_sim_peer_delivered(const struct mr_sim_peer *peer);

/* Take up to `max` bytes that the broker has sent; returns how many. */
uint32_t mr_sim_peer_take(struct mr_sim_peer *peer, void *to, uint32_t max);

/* The peer is gone: the broker sees MR_NET_CLOSED after what was delivered. */
void mr_sim_peer_reset(struct mr_sim_peer *peer);

/* Whether the broker has closed (and everything it had queued before is taken, for an orderly close). */
bool mr_sim_peer_is_closed(const struct mr_sim_peer *peer);

/* Whether the transport has something for poll(). */
bool mr_sim_net_has_work(const struct mr_sim_net *net);

/* Receive buffers that the broker holds. */
uint32_t mr_sim_net_held(const struct mr_sim_net *net);

#endif
