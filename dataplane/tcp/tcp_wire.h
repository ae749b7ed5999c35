/*
 * tcp_wire: TCP headers and options: bytes <-> struct mr_tcp_segment. Nothing else reads or writes them.
 *
 * Source: RFC 9293 3.1 and 3.2, RFC 7323 2.2 and 3.2, RFC 2018 2 and 3.
 */
#ifndef MILLRACE_TCP_WIRE_H
#define MILLRACE_TCP_WIRE_H

#include "tcp/tcp.h"

#define MR_TCP_HEADER_MIN 20u
#define MR_TCP_HEADER_MAX 60u

/*
 * Check and read the segment in `bytes`. path.local and path.remote must be set; the ports, and everything else, are
 * filled in. The payload is one span into `bytes`.
 *
 *   is_verified   the network card has found the checksum right
 *
 * False: `why` says what is wrong. Unknown options are passed over, and so is everything behind a malformed one.
 */
bool mr_tcp_wire_parse(const uint8_t *bytes, uint32_t len, bool is_verified, struct mr_tcp_segment *s,
                       enum mr_tcp_drop *why);

/* The header with its options, checksum 0, at most MR_TCP_HEADER_MAX bytes. Returns its length. */
uint32_t mr_tcp_wire_header(const struct mr_tcp_segment *s, uint8_t *out);

/* The checksum of a segment whose header mr_tcp_wire_header() wrote, over header and spans. */
uint16_t mr_tcp_wire_checksum(const struct mr_tcp_segment *s, const uint8_t *header, uint32_t header_len);

/* Bytes of options that mr_tcp_wire_header() writes. */
uint32_t mr_tcp_wire_options(const struct mr_tcp_segment *s);

#endif
