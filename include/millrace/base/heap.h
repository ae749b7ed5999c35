/*
 * heap: memory of any size out of one reserved region, for the control plane's tables.
 *
 * Sizes are rounded up to classes (four per power of two), each with its own free list; memory
 * that was never needed is never touched, and what is freed serves the same class again. There is
 * no header before an object: the caller says the size again when it frees, as it knows it. The
 * region is the limit: NULL beyond, and the caller refuses the request.
 *
 * Thread: one. Data and storage cores do not use it after start.
 */
#ifndef MILLRACE_BASE_HEAP_H
#define MILLRACE_BASE_HEAP_H

#include "millrace/base/assert.h"
#include "millrace/base/fail.h"
#include "millrace/base/str.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MR_HEAP_CLASSES 112 /* up to 16 << 28 bytes */

struct mr_heap {
    uint8_t *base;
    size_t   size;
    size_t   bumped;     /* bytes of the region ever handed out */
    size_t   used_bytes; /* bytes handed out now, in class sizes */
    void    *free_heads[MR_HEAP_CLASSES];
};

/* `base` is 64-byte aligned, fresh from mmap or not; it is not touched here. */
static inline void mr_heap_init(struct mr_heap *heap, void *base, size_t size)
{
    *heap = (struct mr_heap){.base = base, .size = size};
}

/* Class sizes: 16, 32, 48, 64, then 4 steps per doubling: 80, 96, 112, 128, 160, ... */
static inline uint32_t mr_heap_class(size_t bytes, size_t *class_bytes)
{
    if (bytes <= 64) {
        uint32_t index = bytes == 0 ? 0 : (uint32_t)((bytes - 1) / 16);
        *class_bytes = ((size_t)index + 1) * 16;
        return index;
    }
    uint32_t log2 = 63u - (uint32_t)__builtin_clzll(bytes - 1); /* 2^log2 <= bytes-1 < 2^(log2+1) */
    size_t   step = (size_t)1 << (log2 - 2);
    uint32_t quarter = (uint32_t)(((bytes - 1) >> (log2 - 2)) & 3u);
    *class_bytes = ((size_t)1 << log2) + step * (quarter + 1);
    return 4 + (log2 - 6) * 4 + quarter;
}

/* At least `bytes` bytes, 16-byte aligned, NOT cleared; NULL when the region is exhausted. */
static inline void *mr_heap_try(struct mr_heap *heap, size_t bytes)
{
    size_t   class_bytes;
    uint32_t index = mr_heap_class(bytes, &class_bytes);
    if (index >= MR_HEAP_CLASSES || mr_fail(MR_FAIL_heap)) {
        return NULL;
    }
    void *object = heap->free_heads[index];
    if (object != NULL) {
        memcpy(&heap->free_heads[index], object, sizeof(void *));
    } else {
        if (class_bytes > heap->size - heap->bumped) {
            return NULL;
        }
        object = heap->base + heap->bumped;
        heap->bumped += class_bytes;
    }
    heap->used_bytes += class_bytes;
    return object;
}

/* Cleared memory; NULL when the region is exhausted. */
static inline void *mr_heap_zero(struct mr_heap *heap, size_t bytes)
{
    void *object = mr_heap_try(heap, bytes);
    if (object != NULL) {
        memset(object, 0, bytes);
    }
    return object;
}

/* `bytes` is what was asked for. NULL is allowed and does nothing. */
static inline void mr_heap_free(struct mr_heap *heap, void *object, size_t bytes)
{
    if (object == NULL) {
        return;
    }
    size_t   class_bytes;
    uint32_t index = mr_heap_class(bytes, &class_bytes);
    mr_assert(index < MR_HEAP_CLASSES && (uint8_t *)object >= heap->base &&
              (uint8_t *)object < heap->base + heap->bumped);
    mr_assert(heap->used_bytes >= class_bytes);
    memcpy(object, &heap->free_heads[index], sizeof(void *));
    heap->free_heads[index] = object;
    heap->used_bytes -= class_bytes;
}

/* Move to a larger or smaller size, keeping min(old, new) bytes; on NULL the old object is kept. */
static inline void *mr_heap_resize(struct mr_heap *heap, void *object, size_t old_bytes, size_t new_bytes)
{
    size_t old_class = 0;
    size_t new_class = 0;
    if (object != NULL && mr_heap_class(old_bytes, &old_class) == mr_heap_class(new_bytes, &new_class)) {
        return object;
    }
    void *moved = mr_heap_try(heap, new_bytes);
    if (moved != NULL && object != NULL) {
        memcpy(moved, object, old_bytes < new_bytes ? old_bytes : new_bytes);
        mr_heap_free(heap, object, old_bytes);
    }
    return moved;
}

#define MR_HEAP_NEW(heap_, type_)          ((type_ *)mr_heap_zero((heap_), sizeof(type_)))
#define MR_HEAP_DELETE(heap_, object_)     mr_heap_free((heap_), (object_), sizeof *(object_))
#define MR_HEAP_ARRAY(heap_, type_, count_) ((type_ *)mr_heap_zero((heap_), sizeof(type_) * (size_t)(count_)))
#define MR_HEAP_ARRAY_FREE(heap_, array_, count_)                                                  \
    mr_heap_free((heap_), (array_), sizeof *(array_) * (size_t)(count_))

/* A copy of the string in the heap, free with mr_heap_free(data, len); null stays null. False: no memory. */
static inline bool mr_heap_str(struct mr_heap *heap, struct mr_str source, struct mr_str *copy)
{
    *copy = source;
    if (source.len <= 0) {
        copy->data = source.len < 0 ? NULL : "";
        return true;
    }
    char *data = mr_heap_try(heap, (size_t)source.len);
    if (data == NULL) {
        return false;
    }
    memcpy(data, source.data, (size_t)source.len);
    copy->data = data;
    return true;
}

static inline void mr_heap_str_free(struct mr_heap *heap, struct mr_str *s)
{
    if (s->len > 0) {
        union {
            const char *in;
            void       *out;
        } pun = {.in = s->data};
        mr_heap_free(heap, pun.out, (size_t)s->len);
    }
    *s = MR_STR_NULL;
}

#endif
