mod every_event;

use super::date;

#[test]
fn dates_are_those_of_the_calendar() {
    let second = 1_000_000_000;
    assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
    assert_eq!(date(951_826_245 * second), "2000-02-29 12:10:45 UTC");
    assert_eq!(date(1_798_761_599 * second), "2026-12-31 23:59:59 UTC");
}
