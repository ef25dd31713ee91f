//! Line charts as SVG.

use maud::{Markup, html};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 30.0;
const COLORS: [&str; 8] = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4b5563"];
/// Largest number of points drawn per curve; more cannot be seen.
const MAX_POINTS: usize = 400;

/// One line of a chart.
pub(super) struct Curve {
    pub(super) name: String,
    /// Step and value.
    pub(super) points: Vec<(f64, f64)>,
    /// Whether the curve varies from step to step, so that its running mean is drawn over it.
    pub(super) is_noisy: bool,
}

/// A chart with its curves.
pub(super) struct Chart {
    title: &'static str,
    curves: Vec<Curve>,
}

impl Chart {
    pub(super) fn new(title: &'static str) -> Self {
        Self { title, curves: Vec::new() }
    }

    pub(super) fn add(&mut self, mut curve: Curve) {
        curve.points.retain(|(x, y)| x.is_finite() && y.is_finite());
        // The final evaluation uses more examples than earlier ones: if a step has several points,
        // the first is drawn.
        curve.points.dedup_by_key(|(x, _)| *x);
        if !curve.points.is_empty() {
            self.curves.push(curve);
        }
    }

    /// The chart, or nothing if it has no curve.
    pub(super) fn svg(&self) -> Markup {
        if self.curves.is_empty() {
            return html! {};
        }
        let all = || self.curves.iter().flat_map(|c| &c.points);
        let most_x = all().map(|p| p.0).fold(1.0, f64::max);
        // The axis covers 99 % of the values, so that a few outliers do not flatten the rest.
        let mut ys: Vec<f64> = all().map(|p| p.1).collect();
        ys.sort_by(f64::total_cmp);
        let (low, high) = (ys[0], ys[((ys.len() - 1) as f64 * 0.99).ceil() as usize]);
        let low = if low > 0.0 && low < 0.5 * high { 0.0 } else { low };
        let high = match () {
            () if high > low => high,
            () if low == 0.0 => 1.0,
            () => low + low.abs(),
        };
        let y_ticks = Ticks::over(low, high, 0.0);
        let (low, high) = y_ticks.ends();
        // Steps are whole numbers.
        let x_ticks = Ticks::within(0.0, most_x, 1.0);
        let x = |value: f64| LEFT + value / most_x * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| {
            let share = ((value - low) / (high - low)).clamp(0.0, 1.05);
            HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        };

        let one = |value: f64| format!("{value:.1}");
        let line = |points: &[(f64, f64)], color: &str, opacity: f64| {
            let path: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
            html! {
                polyline fill="none" stroke=(color) stroke-width="1.5" stroke-opacity=(opacity)
                    points=(path.join(" ")) {}
                @if let [(a, b)] = points {
                    circle cx=(one(x(*a))) cy=(one(y(*b))) r="3" fill=(color) {}
                }
            }
        };
        let (bottom, right) = (HEIGHT - BOTTOM + 15.0, WIDTH - RIGHT);
        html! {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                text x=(LEFT) y="16" font-size="13" font-weight="600" { (self.title) }
                @for (value, label) in y_ticks.labelled() {
                    line x1=(LEFT) x2=(right) y1=(one(y(value))) y2=(one(y(value))) stroke="#e3e6eb" {}
                    text x=(LEFT - 6.0) y=(one(y(value) + 3.5)) font-size="10" text-anchor="end"
                        fill="#6b7280" { (label) }
                }
                @for (step, label) in x_ticks.labelled() {
                    text x=(one(x(step))) y=(bottom) font-size="10" text-anchor="middle"
                        fill="#6b7280" { (label) }
                }
                @for (curve, color) in self.curves.iter().zip(COLORS.iter().cycle()) {
                    @let points = thinned(&curve.points);
                    @if curve.is_noisy && points.len() > 20 {
                        (line(&points, color, 0.25))
                        (line(&smoothed(&points), color, 1.0))
                    } @else {
                        (line(&points, color, 1.0))
                    }
                }
                @for (at, name, color) in self.legend() {
                    rect x=(at) y="22" width="10" height="3" fill=(color) {}
                    text x=(at + 14.0) y="27" font-size="10" { (name) }
                }
            }
        }
    }

    /// Position, name and color of each curve that has a name.
    fn legend(&self) -> Vec<(f64, &str, &'static str)> {
        let mut at = LEFT;
        let names = self.curves.iter().map(|curve| curve.name.as_str()).zip(COLORS);
        let placed = names.filter(|(name, _)| !name.is_empty()).map(|(name, color)| {
            let here = at;
            at += 26.0 + 6.0 * name.chars().count() as f64;
            (here, name, color)
        });
        placed.collect()
    }
}

/// At most [`MAX_POINTS`] points, each the mean of adjacent ones.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        (chunk.iter().map(|p| p.0).sum::<f64>() / n, chunk.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(size).map(mean).collect()
}

fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut mean = points[0].1;
    let mut smooth = |(x, y): &(f64, f64)| {
        mean = 0.8 * mean + 0.2 * y;
        (*x, mean)
    };
    points.iter().map(&mut smooth).collect()
}

/// Round numbers along an axis: multiples of 1, 2 or 5 times a power of ten.
#[derive(Debug, PartialEq)]
struct Ticks {
    step: f64,
    /// First and last, in steps.
    from: i64,
    to: i64,
}

impl Ticks {
    /// The desired number of ticks.
    const NUM: f64 = 5.0;
    /// Tolerance for rounding errors, as a fraction of a step.
    const SLACK: f64 = 1e-6;

    /// Ticks that enclose `low` and `high`, at least `least` apart.
    fn over(low: f64, high: f64, least: f64) -> Self {
        let step = Self::step(low, high, least);
        Self { step, from: (low / step + Self::SLACK).floor() as i64, to: (high / step - Self::SLACK).ceil() as i64 }
    }

    /// Ticks between `low` and `high`, at least `least` apart.
    fn within(low: f64, high: f64, least: f64) -> Self {
        let step = Self::step(low, high, least);
        Self { step, from: (low / step - Self::SLACK).ceil() as i64, to: (high / step + Self::SLACK).floor() as i64 }
    }

    fn step(low: f64, high: f64, least: f64) -> f64 {
        let wanted = ((high - low) / Self::NUM).max(least);
        let power = 10_f64.powf(wanted.log10().floor());
        // A slightly smaller step is fine: it gives one tick more.
        [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step > 0.8 * wanted).unwrap_or(wanted)
    }

    fn ends(&self) -> (f64, f64) {
        (self.from as f64 * self.step, self.to as f64 * self.step)
    }

    /// Each tick with its label, which has no more digits than distinguish it from the next.
    fn labelled(&self) -> impl Iterator<Item = (f64, String)> {
        let (low, high) = self.ends();
        let largest = low.abs().max(high.abs());
        let (unit, suffix) = match largest {
            v if v >= 1e6 => (1e6, "M"),
            v if v >= 1e4 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let exponent = |value: f64| (value.log10() + Self::SLACK).floor();
        let step = self.step;
        (self.from..=self.to).map(move |i| {
            let value = i as f64 * step;
            let label = match value {
                0.0 => "0".to_owned(),
                value if largest < 1e-3 => {
                    let digits = (exponent(value.abs()) - exponent(step)).max(0.0) as usize;
                    format!("{value:.digits$e}")
                }
                value => {
                    let digits = (-exponent(step / unit)).max(0.0) as usize;
                    format!("{:.digits$}{suffix}", value / unit)
                }
            };
            (value, label)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_of_nothing_one_point_and_what_is_not_finite_are_drawn() {
        let svg = |points: Vec<(f64, f64)>| {
            let mut chart = Chart::new("t");
            chart.add(Curve { name: "c".into(), points, is_noisy: true });
            chart.svg().into_string()
        };
        assert_eq!(svg(vec![(1.0, f64::NAN)]), "");
        assert!(svg(vec![(1.0, 2.0)]).contains("circle"));
        let many: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), f64::from(i % 7) - 3.0)).collect();
        let drawn = svg(many);
        assert!(drawn.matches("<polyline").count() == 2 && drawn.len() < 40_000 && !drawn.contains("NaN"));
    }

    #[test]
    fn ticks_are_round_numbers_with_no_more_digits_than_they_need() {
        let labels = |ticks: Ticks| ticks.labelled().map(|(_, label)| label).collect::<Vec<_>>().join(" ");
        for (low, high, expected) in [
            (0.0, 99.0, "0 20 40 60 80 100"),
            (0.0, 0.005, "0 0.001 0.002 0.003 0.004 0.005"),
            (0.001, 0.0051, "0.001 0.002 0.003 0.004 0.005 0.006"),
            (0.0, 1.0, "0 0.2 0.4 0.6 0.8 1.0"),
            (-3.0, 3.0, "-3 -2 -1 0 1 2 3"),
            (0.0, 7300.0, "0 2000 4000 6000 8000"),
            (0.0, 36_000.0, "0 10k 20k 30k 40k"),
            (0.0, 2_100_000.0, "0 0.5M 1.0M 1.5M 2.0M 2.5M"),
            (1e-5, 9e-5, "0 2e-5 4e-5 6e-5 8e-5 1.0e-4"),
            (2.301, 2.3049, "2.301 2.302 2.303 2.304 2.305"),
        ] {
            assert_eq!(labels(Ticks::over(low, high, 0.0)), expected);
        }
        // Steps are whole numbers, none beyond the last.
        assert_eq!(labels(Ticks::within(0.0, 3.0, 1.0)), "0 1 2 3");
        assert_eq!(labels(Ticks::within(0.0, 396.0, 1.0)), "0 100 200 300");
        assert_eq!(labels(Ticks::within(0.0, 1.0, 1.0)), "0 1");
    }
}
