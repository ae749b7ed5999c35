#include "net/pcap.h"

#include "millrace/base/assert.h"

#include <string.h>

#define NS_PER_S      1000000000u
#define MAGIC_NS      0xa1b23c4du
#define LINK_ETHERNET 1u

static void put(struct mr_pcap *p, uint32_t value)
{
    memcpy(p->bytes + p->used, &value, sizeof value);
    p->used += (uint32_t)sizeof value;
}

void mr_pcap_init(struct mr_pcap *p, uint8_t *bytes, uint32_t size, uint32_t frame_max)
{
    mr_assert(size >= MR_PCAP_HEADER);
    *p = (struct mr_pcap){.bytes = bytes, .size = size, .frame_max = frame_max};
    const uint16_t version[2] = {2, 4};
    put(p, MAGIC_NS);
    memcpy(p->bytes + p->used, version, sizeof version);
    p->used += (uint32_t)sizeof version;
    put(p, 0);
    put(p, 0);
    put(p, frame_max);
    put(p, LINK_ETHERNET);
}

bool mr_pcap_add(struct mr_pcap *p, uint64_t unix_ns, const struct mr_span *spans, uint32_t span_count)
{
    uint32_t len = 0;
    for (uint32_t index = 0; index < span_count; index++) {
        len += spans[index].len;
    }
    uint32_t left = len < p->frame_max ? len : p->frame_max;
    if (p->size - p->used < MR_PCAP_RECORD || p->size - p->used - MR_PCAP_RECORD < left) {
        p->dropped++;
        return false;
    }
    put(p, (uint32_t)(unix_ns / NS_PER_S));
    put(p, (uint32_t)(unix_ns % NS_PER_S));
    put(p, left);
    put(p, len);
    for (uint32_t index = 0; index < span_count && left > 0; index++) {
        uint32_t part = spans[index].len < left ? spans[index].len : left;
        if (part > 0) { /* an empty span may have no address */
            memcpy(p->bytes + p->used, spans[index].data, part);
        }
        p->used += part;
        left -= part;
    }
    p->frames++;
    return true;
}

struct mr_span mr_pcap_take(struct mr_pcap *p)
{
    struct mr_span taken = {.data = p->bytes, .len = p->used};
    p->used = 0;
    return taken;
}
