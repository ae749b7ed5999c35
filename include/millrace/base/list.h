/*
 * list: a doubly linked list whose links live in the elements.
 *
 * A list head and an element that is in no list point to themselves, so removing twice is harmless.
 */
#ifndef MILLRACE_BASE_LIST_H
#define MILLRACE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct mr_list {
    struct mr_list *prev;
    struct mr_list *next;
};

#define MR_LIST_ENTRY(link_, type_, member_)                                                       \
    ((type_ *)(void *)((char *)(link_) - offsetof(type_, member_)))

/* `link_` may not be removed inside the body; use the _safe form for that. */
#define MR_LIST_EACH(link_, list_)                                                                 \
    for (struct mr_list *link_ = (list_)->next; link_ != (list_); link_ = link_->next)
#define MR_LIST_EACH_SAFE(link_, after_, list_)                                                    \
    for (struct mr_list *link_ = (list_)->next, *after_ = link_->next; link_ != (list_);           \
         link_ = after_, after_ = link_->next)

static inline void mr_list_init(struct mr_list *list)
{
    list->prev = list;
    list->next = list;
}

static inline bool mr_list_is_empty(const struct mr_list *list)
{
    return list->next == list;
}

static inline void mr_list_add_tail(struct mr_list *list, struct mr_list *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

static inline void mr_list_add_head(struct mr_list *list, struct mr_list *link)
{
    mr_list_add_tail(list->next, link);
}

static inline void mr_list_remove(struct mr_list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    mr_list_init(link);
}

/* The first link, removed; NULL when the list is empty. */
static inline struct mr_list *mr_list_pop(struct mr_list *list)
{
    if (mr_list_is_empty(list)) {
        return NULL;
    }
    struct mr_list *link = list->next;
    mr_list_remove(link);
    return link;
}

#endif
