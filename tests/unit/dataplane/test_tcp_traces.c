/*
 * test_tcp_traces: conversations with our TCP (tests/support/tcp_script.h): the bug classes of other stacks by their numbers
 * (01 to 15), and features from 20 on. Each file says in its first line what it shows.
 *
 * Classes 9 (steering) and 11 (packet buffers) are not here: the first belongs to the ports, the second is checked in
 * test_tcp_sim and fuzz_tcp, where every buffer is counted.
 */
#include "tcp_script.h"
#include "test.h"

static void test_trace(void **state)
{
    mr_tcp_script_run(*state);
}

#define TRACE(name_) {.name = name_, .test_func = test_trace, .initial_state = (void *)(uintptr_t)(name_)}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE("01_old_ack_leaves_the_timeout"),
        TRACE("02_zero_window"),
        TRACE("02_zero_window_at_both_ends"),
        TRACE("03_window_update_after_reading"),
        TRACE("04_timers_end_with_the_connection"),
        TRACE("05_fin_again_in_closing"),
        TRACE("05_last_ack_again"),
        TRACE("05_syn_ack_again_without_text"),
        TRACE("06_connect_and_close_leaves_nothing"),
        TRACE("06_refused"),
        TRACE("07_no_record_is_free"),
        TRACE("08_tiny_round_trip"),
        TRACE("10_mss_and_tail"),
        TRACE("12_dsack_is_told_and_taken"),
        TRACE("12_numbers_wrap"),
        TRACE("12_sack_and_reneging"),
        TRACE("13_paws"),
        TRACE("14_scale_and_shrinking_window"),
        TRACE("15_no_storm_of_challenges"),
        TRACE("20_tail_probe"),
        TRACE("21_dsack_is_reordering"),
        TRACE("21_reordering_is_waited_for"),
        TRACE("22_without_sack"),
        TRACE("23_ecn"),
        TRACE("24_open_from_both_sides"),
        TRACE("25_half_close"),
        TRACE("26_closed_to_text"),
        TRACE("27_unread_text_is_reset"),
        TRACE("28_keepalive"),
        TRACE("29_user_timeout"),
        TRACE("30_delayed_acks"),
        TRACE("31_black_hole"),
        TRACE("32_cookie"),
        TRACE("33_path_in_time_wait_begins_anew"),
        TRACE("34_slow_start_and_cubic"),
        TRACE("34_slow_start_ends_by_a_train"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
