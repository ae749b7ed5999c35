/*
 * fmt: text into a bounded buffer, without stdio, so that pure code can build names and log lines.
 *
 * The formats are the subset of printf that the compiler can check: %s %.*s %c %d %u %x with the
 * modifiers ll, l, z and a width with or without a leading 0, and %%. Anything else prints '?'.
 */
#ifndef MILLRACE_BASE_FMT_H
#define MILLRACE_BASE_FMT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct mr_text {
    char  *at;
    size_t size; /* of the buffer, > 0 */
    size_t len;  /* written, the final zero not counted; always < size */
    bool   is_cut;
};

static inline void mr_text_init(struct mr_text *text, char *buffer, size_t size)
{
    *text = (struct mr_text){.at = buffer, .size = size};
    buffer[0] = '\0';
}

static inline void mr_text_put(struct mr_text *text, const char *bytes, size_t len)
{
    size_t room = text->size - 1 - text->len;
    if (len > room) {
        text->is_cut = true;
        len = room;
    }
    memcpy(text->at + text->len, bytes, len);
    text->len += len;
    text->at[text->len] = '\0';
}

static inline void mr_text_number(struct mr_text *text, uint64_t value, bool is_negative, unsigned base,
                                  int width, char pad)
{
    char digits[72];
    int  count = 0;
    do {
        digits[sizeof digits - 1 - (size_t)count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    if (is_negative && pad == ' ') {
        digits[sizeof digits - 1 - (size_t)count++] = '-';
    }
    if (is_negative && pad == '0') {
        mr_text_put(text, "-", 1);
        width--;
    }
    while (count < width && count < 64) {
        digits[sizeof digits - 1 - (size_t)count++] = pad;
    }
    mr_text_put(text, digits + sizeof digits - count, (size_t)count);
}

static inline void mr_text_vfmt(struct mr_text *text, const char *format, va_list args)
{
    while (*format != '\0') {
        const char *plain = format;
        while (*format != '\0' && *format != '%') {
            format++;
        }
        mr_text_put(text, plain, (size_t)(format - plain));
        if (*format == '\0') {
            return;
        }
        format++;
        char pad = ' ';
        int  width = 0;
        int  precision = -1;
        int  longs = 0;
        if (*format == '0') {
            pad = '0';
            format++;
        }
        while (*format >= '0' && *format <= '9') {
            width = width * 10 + (*format++ - '0');
        }
        if (format[0] == '.' && format[1] == '*') {
            precision = va_arg(args, int);
            format += 2;
        }
        for (; *format == 'l' || *format == 'z'; format++) {
            longs += *format == 'z' ? 2 : 1;
        }
        char kind = *format == '\0' ? '\0' : *format++;
        if (kind == 's') {
            const char *s = va_arg(args, const char *);
            if (s == NULL) {
                s = "(null)";
                precision = -1;
            }
            mr_text_put(text, s, precision >= 0 ? (size_t)precision : strlen(s));
        } else if (kind == 'c') {
            char c = (char)va_arg(args, int);
            mr_text_put(text, &c, 1);
        } else if (kind == 'd') {
            int64_t value = longs > 0 ? va_arg(args, long long) : va_arg(args, int);
            mr_text_number(text, value < 0 ? 0u - (uint64_t)value : (uint64_t)value, value < 0, 10,
                           width, pad);
        } else if (kind == 'u' || kind == 'x') {
            uint64_t value = longs > 0 ? va_arg(args, unsigned long long) : va_arg(args, unsigned);
            mr_text_number(text, value, false, kind == 'x' ? 16 : 10, width, pad);
        } else {
            mr_text_put(text, kind == '%' ? "%" : "?", 1);
        }
    }
}

/* Append. What does not fit is cut and remembered in is_cut. */
__attribute__((format(printf, 2, 3))) static inline void mr_text_fmt(struct mr_text *text,
                                                                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    mr_text_vfmt(text, format, args);
    va_end(args);
}

/* One line into a buffer; returns the length written, always < size. */
__attribute__((format(printf, 3, 4))) static inline size_t mr_fmt(char *buffer, size_t size,
                                                                  const char *format, ...)
{
    struct mr_text text;
    va_list        args;
    mr_text_init(&text, buffer, size);
    va_start(args, format);
    mr_text_vfmt(&text, format, args);
    va_end(args);
    return text.len;
}

#endif
