/*
 * double_text: exact shortest printing with big integers (Steele and White; Dragon4).
 *
 * A double is mantissa * 2^exponent. Written as a fraction part/whole, its decimal digits come one
 * by one from part*10/whole. `gap` is half the distance to the neighbouring doubles in the same
 * scale: once what is left is smaller than the gap, any reader would round to the same double.
 * Quotas are the only doubles in Kafka's metadata, so clarity wins over speed here.
 */
#include "kafka/double_text.h"

#include "millrace/base/assert.h"

/* 2^1074 * 10^17 and 10^308 * 2^53, with room: 1,200 bits. */
#define WORDS 40

struct big {
    uint32_t word[WORDS]; /* least significant first */
};

static struct big big_from(uint64_t value)
{
    struct big big = {{(uint32_t)value, (uint32_t)(value >> 32)}};
    return big;
}

static void big_multiply(struct big *big, uint32_t by)
{
    uint64_t carry = 0;
    for (int index = 0; index < WORDS; index++) {
        carry += (uint64_t)big->word[index] * by;
        big->word[index] = (uint32_t)carry;
        carry >>= 32;
    }
    mr_assert(carry == 0);
}

static void big_shift(struct big *big, int bits)
{
    for (; bits >= 16; bits -= 16) {
        big_multiply(big, 1u << 16);
    }
    big_multiply(big, 1u << bits);
}

static int big_compare(const struct big *a, const struct big *b)
{
    for (int index = WORDS - 1; index >= 0; index--) {
        if (a->word[index] != b->word[index]) {
            return a->word[index] < b->word[index] ? -1 : 1;
        }
    }
    return 0;
}

static struct big big_sum(const struct big *a, const struct big *b)
{
    struct big sum;
    uint64_t   carry = 0;
    for (int index = 0; index < WORDS; index++) {
        carry += (uint64_t)a->word[index] + b->word[index];
        sum.word[index] = (uint32_t)carry;
        carry >>= 32;
    }
    mr_assert(carry == 0);
    return sum;
}

static void big_subtract(struct big *a, const struct big *b)
{
    int64_t borrow = 0;
    for (int index = 0; index < WORDS; index++) {
        borrow += (int64_t)a->word[index] - b->word[index];
        a->word[index] = (uint32_t)borrow;
        borrow >>= 32;
    }
    mr_assert(borrow == 0);
}

/* Digits of mantissa * 2^exponent > 0, at most 17; returns how many, and the power of ten of the
 * first one. */
static int shortest_digits(uint64_t mantissa, int exponent, char digits[20], int *power)
{
    bool       is_even = (mantissa & 1) == 0;
    bool       is_edge = mantissa == 1ull << 52; /* the neighbour below is half as far away */
    struct big part = big_from(mantissa);
    struct big whole = big_from(1);
    struct big gap_above = big_from(1);
    struct big gap_below = big_from(1);
    int        doubling = is_edge ? 2 : 1;
    big_shift(&part, doubling + (exponent > 0 ? exponent : 0));
    big_shift(&whole, doubling + (exponent < 0 ? -exponent : 0));
    big_shift(&gap_above, (is_edge ? 1 : 0) + (exponent > 0 ? exponent : 0));
    big_shift(&gap_below, exponent > 0 ? exponent : 0);

    /* Scale until 1 <= part/whole < 10, counting what a reader would round up as reached. */
    *power = 0;
    for (;;) {
        struct big reach = big_sum(&part, &gap_above);
        struct big ten = whole;
        big_multiply(&ten, 10);
        int order = big_compare(&reach, &ten);
        if (order < 0 || (order == 0 && !is_even)) {
            break;
        }
        whole = ten;
        (*power)++;
    }
    for (;;) {
        struct big reach = big_sum(&part, &gap_above);
        int        order = big_compare(&reach, &whole);
        if (order > 0 || (order == 0 && is_even)) {
            break;
        }
        big_multiply(&part, 10);
        big_multiply(&gap_above, 10);
        big_multiply(&gap_below, 10);
        (*power)--;
    }
    int count = 0;
    for (;;) {
        int digit = 0;
        while (big_compare(&part, &whole) >= 0) {
            big_subtract(&part, &whole);
            digit++;
        }
        struct big reach = big_sum(&part, &gap_above);
        int        below = big_compare(&part, &gap_below);
        int        above = big_compare(&reach, &whole);
        bool       may_stop = below < 0 || (below == 0 && is_even);
        bool       may_round_up = above > 0 || (above == 0 && is_even);
        /* Java always weighs two digits: the smallest double is 4.9E-324, though 5E-324 reads back
         * as well. One that needs a single digit then ends in a zero, which is dropped. */
        if (count > 0 && (may_stop || may_round_up)) {
            struct big twice = part;
            big_multiply(&twice, 2);
            bool up = may_round_up && (!may_stop || big_compare(&twice, &whole) >= 0);
            digits[count++] = (char)('0' + digit + (up ? 1 : 0));
            if (digits[count - 1] > '9') {
                /* A first digit at which one could have stopped, rounding up. */
                mr_assert(count == 2 && digits[0] < '9');
                digits[0]++;
                return 1;
            }
            return count == 2 && digits[1] == '0' ? 1 : count;
        }
        digits[count++] = (char)('0' + digit);
        mr_assert(count < 20);
        big_multiply(&part, 10);
        big_multiply(&gap_above, 10);
        big_multiply(&gap_below, 10);
    }
}

void mr_double_text(struct mr_text *text, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bool     is_negative = bits >> 63 != 0;
    int      biased = (int)(bits >> 52 & 0x7ff);
    uint64_t fraction = bits & ((1ull << 52) - 1);
    if (biased == 0x7ff && fraction != 0) {
        mr_text_fmt(text, "NaN");
        return;
    }
    mr_text_fmt(text, "%s", is_negative ? "-" : "");
    if (biased == 0x7ff) {
        mr_text_fmt(text, "Infinity");
        return;
    }
    if (biased == 0 && fraction == 0) {
        mr_text_fmt(text, "0.0");
        return;
    }
    uint64_t mantissa = biased == 0 ? fraction : fraction | 1ull << 52;
    int      exponent = biased == 0 ? -1074 : biased - 1075;
    char     digits[20];
    int      power;
    int      count = shortest_digits(mantissa, exponent, digits, &power);
    if (power < -3 || power >= 7) {
        mr_text_fmt(text, "%c.%.*sE%d", digits[0], count > 1 ? count - 1 : 1,
                    count > 1 ? digits + 1 : "0", power);
        return;
    }
    if (power < 0) {
        mr_text_fmt(text, "0.%.*s%.*s", -power - 1, "00", count, digits);
        return;
    }
    for (int index = 0; index <= power; index++) {
        mr_text_fmt(text, "%c", index < count ? digits[index] : '0');
    }
    mr_text_fmt(text, ".%.*s", count > power + 1 ? count - power - 1 : 1,
                count > power + 1 ? digits + power + 1 : "0");
}
