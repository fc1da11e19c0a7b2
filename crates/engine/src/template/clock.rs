//! `strftime` of a time in UTC, as far as chat templates use it.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Writes the time `unix_seconds` after the Unix epoch; the error is a specifier this function does not know.
pub(super) fn format_utc(unix_seconds: u64, format: &str) -> Result<String, char> {
    let days = unix_seconds / 86_400;
    let of_day = unix_seconds % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let date = Date::of(days);
    let month_name = name(&MONTHS, date.month - 1);
    let weekday = name(&WEEKDAYS, (days + 4) % 7);
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match chars.next().unwrap_or('%') {
            'Y' => text += &date.year.to_string(),
            'y' => text += &format!("{:02}", date.year % 100),
            'm' => text += &format!("{:02}", date.month),
            'd' => text += &format!("{:02}", date.day),
            'e' => text += &format!("{:2}", date.day),
            'B' => text += month_name,
            'b' | 'h' => text += &month_name[..3],
            'A' => text += weekday,
            'a' => text += &weekday[..3],
            'H' => text += &format!("{hour:02}"),
            'I' => text += &format!("{:02}", (hour + 11) % 12 + 1),
            'p' => text += if hour < 12 { "AM" } else { "PM" },
            'M' => text += &format!("{minute:02}"),
            'S' => text += &format!("{second:02}"),
            '%' => text.push('%'),
            unknown => return Err(unknown),
        }
    }
    Ok(text)
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    let name = usize::try_from(index).ok().and_then(|index| names.get(index));
    name.expect("months and weekdays are counted modulo their number")
}

struct Date {
    year: u64,
    /// 1 to 12.
    month: u64,
    /// 1 to 31.
    day: u64,
}

impl Date {
    /// The date `days` after 1970-01-01, by Howard Hinnant's `civil_from_days`: years begin in March, so that
    /// the leap day is the last of its year.
    fn of(days: u64) -> Self {
        let days = days + 719_468;
        let era = days / 146_097;
        let of_era = days % 146_097;
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Self { year, month, day }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let day = |seconds| format_utc(seconds, "%Y-%m-%d %a").unwrap();
        assert_eq!(day(0), "1970-01-01 Thu");
        assert_eq!(day(951_782_399), "2000-02-28 Mon");
        assert_eq!(day(951_782_400), "2000-02-29 Tue");
        assert_eq!(day(4_107_542_400), "2100-03-01 Mon");
    }

    #[test]
    fn every_specifier_a_template_uses_is_written() {
        let text = format_utc(1_763_735_045, "%d %b %Y, %A %e %B %y, %H:%M:%S %I %p, 100%%").unwrap();
        assert_eq!(text, "21 Nov 2025, Friday 21 November 25, 14:24:05 02 PM, 100%");
        assert_eq!(format_utc(0, "%I %p %"), Ok("12 AM %".to_owned()));
        assert_eq!(format_utc(0, "%Q"), Err('Q'));
    }
}
