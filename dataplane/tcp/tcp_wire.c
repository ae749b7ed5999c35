#include "tcp/tcp_wire.h"

#include "net/checksum.h"
#include "tcp/tcp_conn.h"

#define PROTOCOL_TCP 6

enum option {
    OPTION_END = 0,
    OPTION_NOP = 1,
    OPTION_MSS = 2,
    OPTION_WSCALE = 3,
    OPTION_SACK_PERMITTED = 4,
    OPTION_SACK = 5,
    OPTION_TIMESTAMP = 8,
};

static void read_sacks(struct mr_tcp_segment *s, const uint8_t *at, uint32_t len)
{
    for (; len >= 8 && s->sack_count < MR_TCP_SACKS; at += 8, len -= 8) {
        s->sacks[s->sack_count++] = (struct mr_tcp_sack){.start = mr_load_be32(at), .end = mr_load_be32(at + 4)};
    }
}

/* One option with a right length for its kind; others are passed over. Options that belong on a SYN only count there
 * (RFC 9293 3.2, RFC 7323 2.2, RFC 2018 2). */
static void read_option(struct mr_tcp_segment *s, uint8_t kind, const uint8_t *value, uint32_t len)
{
    bool is_syn = (s->flags & MR_TCP_SYN) != 0;
    if (kind == OPTION_MSS && len == 2 && is_syn) {
        s->has_mss = true;
        s->mss = mr_load_be16(value);
    } else if (kind == OPTION_WSCALE && len == 1 && is_syn) {
        s->has_wscale = true;
        s->wscale = value[0] < 14 ? value[0] : 14; /* RFC 7323 2.3 */
    } else if (kind == OPTION_SACK_PERMITTED && len == 0 && is_syn) {
        s->is_sack_permitted = true;
    } else if (kind == OPTION_TIMESTAMP && len == 8) {
        s->has_ts = true;
        s->ts_value = mr_load_be32(value);
        s->ts_echo = mr_load_be32(value + 4);
    } else if (kind == OPTION_SACK && len % 8 == 0 && !is_syn) {
        read_sacks(s, value, len);
    }
}

static void read_options(struct mr_tcp_segment *s, const uint8_t *at, uint32_t len)
{
    while (len > 0 && at[0] != OPTION_END) {
        if (at[0] == OPTION_NOP) {
            at++;
            len--;
            continue;
        }
        if (len < 2 || at[1] < 2 || at[1] > len) {
            return;
        }
        read_option(s, at[0], at + 2, at[1] - 2u);
        len -= at[1];
        at += at[1];
    }
}

bool mr_tcp_wire_parse(const uint8_t *bytes, uint32_t len, bool is_verified, struct mr_tcp_segment *s,
                       enum mr_tcp_drop *why)
{
    uint32_t header = len < MR_TCP_HEADER_MIN ? 0 : (uint32_t)(bytes[12] >> 4) * 4;
    if (header < MR_TCP_HEADER_MIN || header > len) {
        *why = MR_TCP_DROP_LENGTH;
        return false;
    }
    if (!is_verified) {
        bool is_ip4 = mr_address_is_ip4(&s->path.remote);
        uint64_t sum = mr_checksum_pseudo(&s->path.remote, &s->path.local, is_ip4, PROTOCOL_TCP, len);
        if (mr_checksum_fold(mr_checksum_add(sum, bytes, len)) != 0) {
            *why = MR_TCP_DROP_CHECKSUM;
            return false;
        }
    }
    s->path.remote_port = mr_load_be16(bytes);
    s->path.local_port = mr_load_be16(bytes + 2);
    s->seq = mr_load_be32(bytes + 4);
    s->ack = mr_load_be32(bytes + 8);
    s->flags = bytes[13];
    s->window = mr_load_be16(bytes + 14);
    s->has_mss = s->has_wscale = s->has_ts = s->is_sack_permitted = false;
    s->sack_count = 0;
    read_options(s, bytes + MR_TCP_HEADER_MIN, header - MR_TCP_HEADER_MIN);
    s->len = len - header;
    s->span_count = s->len > 0;
    s->spans[0] = (struct mr_span){.data = bytes + header, .len = s->len};
    return true;
}

static uint8_t *put_option(uint8_t *at, enum option kind, uint8_t len)
{
    at[0] = (uint8_t)kind;
    at[1] = len;
    return at + 2;
}

/* Timestamps and SACK blocks are padded in front, so that their numbers are aligned (RFC 7323 appendix A). */
static uint8_t *put_sacks(const struct mr_tcp_segment *s, uint8_t *at)
{
    *at++ = OPTION_NOP;
    *at++ = OPTION_NOP;
    at = put_option(at, OPTION_SACK, (uint8_t)(2 + 8 * s->sack_count));
    for (uint32_t index = 0; index < s->sack_count; index++, at += 8) {
        mr_store_be32(at, s->sacks[index].start);
        mr_store_be32(at + 4, s->sacks[index].end);
    }
    return at;
}

static uint8_t *put_options(const struct mr_tcp_segment *s, uint8_t *at)
{
    if (s->has_mss) {
        at = put_option(at, OPTION_MSS, 4);
        mr_store_be16(at, s->mss);
        at += 2;
    }
    if (s->is_sack_permitted) {
        at = put_option(at, OPTION_SACK_PERMITTED, 2);
        *at++ = OPTION_NOP;
        *at++ = OPTION_NOP;
    }
    if (s->has_wscale) {
        *at++ = OPTION_NOP;
        at = put_option(at, OPTION_WSCALE, 3);
        *at++ = s->wscale;
    }
    if (s->has_ts) {
        *at++ = OPTION_NOP;
        *at++ = OPTION_NOP;
        at = put_option(at, OPTION_TIMESTAMP, 10);
        mr_store_be32(at, s->ts_value);
        mr_store_be32(at + 4, s->ts_echo);
        at += 8;
    }
    return s->sack_count > 0 ? put_sacks(s, at) : at;
}

uint32_t mr_tcp_wire_options(const struct mr_tcp_segment *s)
{
    return (s->has_mss ? 4u : 0u) + (s->is_sack_permitted ? 4u : 0u) + (s->has_wscale ? 4u : 0u) + (s->has_ts ? 12u : 0u) +
           (s->sack_count > 0 ? 4u + 8u * s->sack_count : 0u);
}

uint32_t mr_tcp_wire_header(const struct mr_tcp_segment *s, uint8_t *out)
{
    uint32_t len = MR_TCP_HEADER_MIN + mr_tcp_wire_options(s);
    mr_assert(len <= MR_TCP_HEADER_MAX);
    mr_store_be16(out, s->path.local_port);
    mr_store_be16(out + 2, s->path.remote_port);
    mr_store_be32(out + 4, s->seq);
    mr_store_be32(out + 8, s->ack);
    out[12] = (uint8_t)(len / 4 << 4);
    out[13] = s->flags;
    mr_store_be16(out + 14, s->window);
    mr_store_be32(out + 16, 0); /* checksum, urgent pointer */
    const uint8_t *end = put_options(s, out + MR_TCP_HEADER_MIN);
    mr_assert(end == out + len);
    return len;
}

uint16_t mr_tcp_wire_checksum(const struct mr_tcp_segment *s, const uint8_t *header, uint32_t header_len)
{
    uint64_t sum = mr_checksum_pseudo(&s->path.local, &s->path.remote, mr_address_is_ip4(&s->path.remote), PROTOCOL_TCP,
                                      header_len + s->len);
    sum = mr_checksum_add(sum, header, header_len);
    bool is_odd = false; /* a span that begins at an odd place has its bytes the other way round (RFC 1071 2) */
    for (uint32_t index = 0; index < s->span_count; index++) {
        uint16_t part = (uint16_t)~mr_checksum_fold(mr_checksum_add(0, s->spans[index].data, s->spans[index].len));
        sum += is_odd ? __builtin_bswap16(part) : part;
        is_odd ^= (s->spans[index].len & 1) != 0;
    }
    return mr_checksum_fold(sum);
}
