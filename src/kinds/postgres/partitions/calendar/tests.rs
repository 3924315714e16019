use super::*;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

#[test]
fn periods_begin_where_the_calendar_says() {
    for (interval, within, start, next) in [
        (Interval::Day, "2026-03-29", "2026-03-29", "2026-03-30"),
        (Interval::Week, "2026-01-01", "2025-12-29", "2026-01-05"),
        (Interval::Month, "2024-02-29", "2024-02-01", "2024-03-01"),
        (Interval::Quarter, "2026-12-31", "2026-10-01", "2027-01-01"),
        (Interval::Year, "2026-11-21", "2026-01-01", "2027-01-01"),
    ] {
        assert_eq!(interval.start(day(within)), day(start));
        assert_eq!(interval.next(day(start)), day(next));
    }
    assert_eq!(
        Interval::name("t{week_year}w{week}q{quarter}", day("2025-12-29")),
        "t2026w01q4"
    );
}

#[test]
fn edges_are_midnights_of_the_zone() {
    for (zone, date, literal) in [
        (
            chrono_tz::America::New_York,
            "2026-03-08",
            "'2026-03-08 05:00:00+00'",
        ),
        (
            chrono_tz::America::New_York,
            "2026-03-09",
            "'2026-03-09 04:00:00+00'",
        ),
        (
            chrono_tz::Europe::Berlin,
            "2026-10-25",
            "'2026-10-24 22:00:00+00'",
        ),
        (
            chrono_tz::Europe::Berlin,
            "2026-10-26",
            "'2026-10-25 23:00:00+00'",
        ),
        (
            chrono_tz::Asia::Kathmandu,
            "2026-01-01",
            "'2025-12-31 18:15:00+00'",
        ),
        // The clocks skip midnight here.
        (
            chrono_tz::America::Santiago,
            "2025-09-07",
            "'2025-09-07 04:00:00+00'",
        ),
    ] {
        let point = Key::TimestampTz.at(day(date), zone);
        assert_eq!(Key::TimestampTz.literal(point), literal);
        assert_eq!(Key::TimestampTz.point(literal), Some(point));
        assert_eq!(Key::TimestampTz.day(point, zone), Some(day(date)));
    }
}

#[test]
fn bounds_of_any_value_are_read() {
    for (key, literal, point) in [
        (Key::Date, "'1970-01-01'", 0),
        (Key::Date, "'2000-02-29'", 11_016),
        (Key::Date, "'0001-01-01'", -719_162),
        (Key::Date, "'0001-12-31 BC'", -719_163),
        (Key::Date, "'4713-01-01 BC'", -2_440_550),
        (Key::Date, "'10000-01-01'", 2_932_897),
        (Key::Date, "'5874897-12-31'", 2_145_042_905),
        (Key::Timestamp, "'1969-12-31 23:59:59.5'", -500_000),
        (
            Key::TimestampTz,
            "'0001-01-01 00:00:00+00 BC'",
            -62_167_219_200_000_000,
        ),
        (
            Key::TimestampTz,
            "'294276-12-31 23:59:59.999999+00'",
            9_224_318_015_999_999_999,
        ),
    ] {
        assert_eq!(key.point(literal), Some(point), "{literal}");
        if !literal.ends_with(".5'") {
            assert_eq!(key.literal(point), literal);
        }
    }
    assert_eq!(
        Key::Timestamp.literal(-500_000),
        "'1969-12-31 23:59:59.500000'"
    );
    for uuid in [
        "'00000000-0000-0000-0000-000000000001'",
        "'7fffffff-ffff-ffff-ffff-ffffffffffff'",
        "'80000000-0000-0000-0000-000000000000'",
        "'ffffffff-0000-4000-8000-000000000000'",
    ] {
        let point = Key::Uuid.point(uuid).unwrap();
        assert!(point > FIRST && point < LAST);
        assert_eq!(Key::Uuid.literal(point), uuid);
    }
    assert!(
        Key::Uuid.point("'7fffffff-ffff-ffff-ffff-ffffffffffff'")
            < Key::Uuid.point("'80000000-0000-0000-0000-000000000000'")
    );
    assert_eq!(Key::Date.point("'2026-13-01'"), None);
    assert_eq!(Key::Date.point("'someday'"), None);
}

#[test]
fn literals_are_read_back_whatever_the_key() {
    let zone = chrono_tz::Asia::Kathmandu;
    for key in [
        Key::Date,
        Key::Timestamp,
        Key::TimestampTz,
        Key::Integer(KeyEpoch::Seconds),
        Key::Integer(KeyEpoch::Millis),
        Key::Uuid,
    ] {
        for date in ["1969-12-31", "1970-01-01", "2026-03-29", "2099-01-01"] {
            if key == Key::Uuid && date < "1970-01-02" {
                continue;
            }
            let point = key.at(day(date), zone);
            assert_eq!(
                key.point(&key.literal(point)),
                Some(point),
                "{key:?} {date}"
            );
            assert_eq!(key.day(point, zone), Some(day(date)), "{key:?} {date}");
        }
        assert_eq!(key.point("MINVALUE"), Some(FIRST));
        assert_eq!(key.literal(LAST), "MAXVALUE");
    }
    assert_eq!(
        range("FOR VALUES FROM ('1') TO (MAXVALUE)"),
        Some(("'1'", "MAXVALUE"))
    );
    assert_eq!(range("FOR VALUES FROM ('1', 'a') TO ('2', 'b')"), None);
    assert_eq!(range("DEFAULT"), None);
}
