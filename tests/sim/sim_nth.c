#include "sim_nth.h"

#include "millrace/base/fail.h"

#include <string.h>

#define SYNCS (1u << MR_DISK_SYNC | 1u << MR_DISK_SYNC_FS | 1u << MR_DISK_SYNC_DIR)

static const struct {
    const char         *name;
    struct mr_sim_fault fault; /* of the disk: kinds != 0 */
    enum mr_fail_site   site;  /* or this is empty */
    bool                is_sticky;
} ways[] = {
    {.name = "any-io", .fault = {.kinds = UINT32_MAX, .err = MR_ERR_IO}},
    {.name = "any-io-sticky", .fault = {.kinds = UINT32_MAX, .err = MR_ERR_IO, .is_sticky = true}},
    {.name = "any-space", .fault = {.kinds = UINT32_MAX, .err = MR_ERR_NO_SPACE}},
    {.name = "write-short", .fault = {.kinds = 1u << MR_DISK_WRITE, .err = MR_ERR_IO, .short_bytes = 1536}},
    {.name = "write-space-sticky", .fault = {.kinds = 1u << MR_DISK_WRITE, .err = MR_ERR_NO_SPACE, .is_sticky = true}},
    {.name = "flush", .fault = {.kinds = SYNCS, .err = MR_ERR_IO}},
    {.name = "flush-sticky", .fault = {.kinds = SYNCS, .err = MR_ERR_IO, .is_sticky = true}},
    {.name = "allocate-space", .fault = {.kinds = 1u << MR_DISK_ALLOCATE, .err = MR_ERR_NO_SPACE}},
    {.name = "allocate-space-sticky", .fault = {.kinds = 1u << MR_DISK_ALLOCATE, .err = MR_ERR_NO_SPACE, .is_sticky = true}},
#ifdef MR_FAILS /* without, nothing asks */
#define FAIL(name_) \
    {.name = #name_, .site = MR_FAIL_##name_}, {.name = #name_ "-sticky", .site = MR_FAIL_##name_, .is_sticky = true},
#include "millrace/base/fail.def"
#undef FAIL
#endif
};

uint32_t mr_sim_nth_count(void)
{
    return (uint32_t)(sizeof ways / sizeof ways[0]);
}

const char *mr_sim_nth_name(uint32_t way)
{
    return ways[way].name;
}

uint32_t mr_sim_nth_find(const char *name)
{
    uint32_t way = 0;
    while (way < mr_sim_nth_count() && strcmp(ways[way].name, name) != 0) {
        way++;
    }
    return way;
}

bool mr_sim_nth_is_disk(uint32_t way)
{
    return ways[way].fault.kinds != 0;
}

bool mr_sim_nth_may_end(uint32_t way)
{
    return mr_sim_nth_is_disk(way) || ways[way].site == MR_FAIL_heap;
}

void mr_sim_nth_arm(struct mr_sim_fs *fs, uint32_t way, uint64_t n)
{
    struct mr_sim_fault fault = ways[way].fault;
    fault.nth = n - 1;
    if (mr_sim_nth_is_disk(way)) {
        mr_sim_fs_fail(fs, &fault);
    }
#ifdef MR_FAILS
    mr_fail_plan = (struct mr_fail_plan){
        .site = ways[way].site, .is_armed = fault.kinds == 0, .is_sticky = ways[way].is_sticky, .nth = n};
#endif
}

bool mr_sim_nth_disarm(struct mr_sim_fs *fs)
{
    bool is_met = mr_sim_fs_faults(fs) > 0;
    mr_sim_fs_heal(fs);
#ifdef MR_FAILS
    is_met |= mr_fail_plan.failures > 0;
    mr_fail_plan.is_armed = false;
#endif
    return is_met;
}
