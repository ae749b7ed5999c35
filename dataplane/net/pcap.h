/*
 * pcap: frames as records of a capture file, for tcpdump and Wireshark: the tap of a port or a test. Bytes only: whoever owns
 * the memory writes it to a file when it likes.
 *
 * A buffer that is full takes no more and counts; nobody waits for it. Memory: the caller's, of any size from
 * MR_PCAP_HEADER on. Thread: one.
 * Source: draft-ietf-opsawg-pcap, with nanoseconds, link type Ethernet, in the byte order of this machine.
 */
#ifndef MILLRACE_NET_PCAP_H
#define MILLRACE_NET_PCAP_H

#include "millrace/base/span.h"

#include <stdbool.h>

#define MR_PCAP_HEADER 24u /* in front of the first record */
#define MR_PCAP_RECORD 16u /* in front of each frame */

struct mr_pcap {
    uint8_t *bytes;
    uint32_t size;
    uint32_t used;
    uint32_t frame_max; /* bytes of a frame that are kept */
    uint64_t frames;
    uint64_t dropped; /* there was no room */
};

/* The file's header is the first that there is to write. */
void mr_pcap_init(struct mr_pcap *p, uint8_t *bytes, uint32_t size, uint32_t frame_max);

/* One frame, in pieces; `unix_ns`: when it was seen. False: no room. Cost: a copy of what is kept. */
bool mr_pcap_add(struct mr_pcap *p, uint64_t unix_ns, const struct mr_span *spans, uint32_t span_count);

/* What is to be written next; valid until the next call. It is forgotten: the buffer is empty again. */
struct mr_span mr_pcap_take(struct mr_pcap *p);

#endif
