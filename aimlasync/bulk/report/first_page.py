"""The first page of a report, for the reader who pays: what was asked, of how many rows, and with which result.

Says in words what failed and what to do. Imports the facts of a report and its markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aimlasync.bulk.report import markup as m
from aimlasync.bulk.report.charts import Html, duration
from aimlasync.bulk.report.facts import BINS, Report
from aimlasync.bulk.report.failure_words import in_words
from aimlasync.bulk.report.fields import MISSING, Field

_TOP_LABELS = 30
_MOST_CONFUSED = 12


def first_page(report: Report) -> Html:
    """Return the parts of the page that say what the job came to."""
    parts = [_summary(report), _labels(report), _quality(report), _fields(report), _failures(report)]
    return m.join(*parts)


def _summary(report: Report) -> Html:
    asked, parts = report.asked, []
    if asked.is_simulated:
        words = "Simulated: the built-in simulator answered, and no model. Nothing was charged."
        parts.append(m.tag("p", m.tag("strong", words), of="notice"))
    if asked.words:
        of = m.join(" of ", m.said(asked.input)) if asked.input else ""
        who = m.join(", asked of ", m.said(report.job["model"])) if "model" in report.job else ""
        parts.append(m.tag("p", "For each row", of, ": ", m.said(asked.words, 300), who, "."))
    total = asked.rows
    left = max(0, total - report.rows) if total is not None else 0
    later = f"; {report.rescued:,} more were ok later" if report.rescued else ""
    items = [
        ("Rows ok", f"{report.ok:,}", f"{m.share(report.ok, total or report.rows)} of {total or report.rows:,}"),
        ("Rows failed", f"{report.failed:,}", f"{m.share(report.failed, total or report.rows)}{later}"),
    ]
    if left:
        items.append(("Rows not done", f"{left:,}", "the same command goes on with them"))
    quality = report.quality
    if quality is not None and quality.accuracy is not None and quality.interval is not None:
        low, high = (f"{100 * each:.1f}" for each in quality.interval)
        note = f"{quality.right:,} of {m.many(quality.judged, 'row')} with a gold label; 95% interval {low} to {high}%"
        items.append(("Accuracy", f"{100 * quality.accuracy:.1f}%", note))
    cost = report.cost
    notes = [f"{m.many(cost.unknown, 'answered row')} without a price" if cost.unknown else ""]
    if cost.known and report.ok:
        notes.append(f"{m.money(1000 * cost.amount / cost.known)} per 1,000 rows")
    if asked.is_simulated:
        notes.append("simulated, nothing was charged")
    items.append(("Cost", m.known(cost, m.money(cost.amount)), "; ".join(filter(None, notes))))
    ran = sum(end - start for start, end in report.sessions)
    items.append(("Time", duration(ran) if ran else "unknown", "without the gaps" if len(report.sessions) > 1 else ""))
    return m.section("What was asked, and the result", *parts, m.facts(items), of="first")


def _labels(report: Report) -> Html:
    parts, meanings = [], report.asked.labels
    # In a form the labels are one of its fields.
    if (report.labelled or meanings) and report.form is None:
        found = {label: count for label, count in report.labels.items() if label is not None}
        names = list({**dict.fromkeys(meanings), **found}) if meanings else list(found)
        if not report.asked.is_ordinal:
            names.sort(key=lambda label: (-found.get(label, 0), label))
        shown: list[tuple[str, int]] = [(_label(name, meanings), found.get(name, 0)) for name in names[:_TOP_LABELS]]
        if len(names) > _TOP_LABELS or None in report.labels:
            more = "more than " if None in report.labels else ""
            rest = report.labels.total() - sum(count for _, count in shown)
            shown.append((Html(f"<i>{more}{max(0, len(names) - _TOP_LABELS):,} other labels</i>"), rest))
        several = "; a row may have several" if report.is_multi else ""
        parts.append(m.muted(f"Of {m.many(report.labelled, 'labelled row')}{several}."))
        parts.append(m.bars("Label", shown, report.labelled) if shown else m.muted("All have an empty list of labels."))
    if known := report.confidences.known:
        counts = [(f"{at / BINS:.1f} to {(at + 1) / BINS:.1f}", report.confidence[at]) for at in range(BINS)]
        words = f"Probability of the label by the model's own token probabilities, {m.many(known, 'row')}: mean "
        parts += [m.tag("h3", "Confidence"), m.muted(f"{words}{report.confidences.amount / known:.3f}.")]
        parts.append(m.bars("Confidence", counts, known))
    return m.section("Labels", *parts) if parts else Html("")


def _label(label: str, meanings: dict[str, str]) -> Html:
    if not label.strip():
        return Html("<i>empty</i>")
    said = meanings.get(label)
    return m.join(m.said(label, 80), m.tag("div", m.said(said, 160), of="note") if said else "")


def _quality(report: Report) -> Html:
    quality = report.quality
    if quality is None:
        return Html("")
    if not quality.judged:
        return m.section("Quality", m.muted("No row with a label has a gold one."))
    words = [f"{m.many(quality.judged, 'row')} with a label and a gold one; {quality.blank:,} without a gold one."]
    if quality.mean_distance is not None and quality.within_one is not None:
        words.append(
            f"Off by {quality.mean_distance:.2f} steps on average, {100 * quality.within_one:.1f}% within one."
        )
    if strange := quality.strange:
        words.append(
            f"In {m.many(strange.total(), 'row')} the gold label is none of the labels, so no answer is right."
        )
    parts = [m.muted(" ".join(words))]
    rows = [
        (
            m.said(each.label, 80),
            *map(_percent, (each.precision, each.recall, each.f1)),
            f"{each.gold:,}",
            f"{each.given:,}",
        )
        for each in quality.per_label()[:_TOP_LABELS]
    ]
    head = ["Label", "Precision", "Recall", "F1", "Rows with it in gold", "Rows given it"]
    parts.append(m.table("wnnnnn", head, rows))
    if quality.pairs and len(quality.columns) <= _MOST_CONFUSED:
        confused = [
            (m.said(value or "none", 80), *(f"{count:,}" if count else "·" for count in counts))
            for value, counts in quality.confusion()[: 2 * _MOST_CONFUSED]
        ]
        head = ["Gold (down), given (across)", *(m.said(label, 40) for label in quality.columns)]
        parts += [
            m.tag("h3", "Which label is taken for which"),
            m.table("w" + "n" * len(quality.columns), head, confused),
        ]
    elif mistakes := quality.mistakes():
        wrong = [(m.said(gold or "none", 80), m.said(given, 80), f"{count:,}") for gold, given, count in mistakes]
        head = ["Gold", "Given instead", "Rows"]
        parts += [m.tag("h3", "The most frequent mistakes"), m.table("wwn", head, wrong[:_TOP_LABELS])]
    return m.section("Quality", *parts)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _fields(report: Report) -> Html:
    form = report.form
    if form is None or not any(field.rows for field in form.fields):
        return Html("")
    parts = [_field(field) for field in form.fields]
    return m.section("Answers by field", m.tag("div", *parts, of="two"))


def _field(field: Field) -> Html:
    counts: list[tuple[str, int]] = [(m.said(value, 80), count) for value, count in field.bins()]
    words = "A row may have several. " if field.is_list else ""
    if field.is_number and field.mean is not None:
        words = f"Mean {field.mean:,.4g}, lowest {field.low:,.6g}, highest {field.high:,.6g}. "
    if field.missing:
        counts.append((MISSING, field.missing))
    shown = [*counts[:_TOP_LABELS]]
    if rest := counts[_TOP_LABELS:]:
        shown.append((f"{len(rest):,} others", sum(count for _, count in rest)))
    table = m.bars("Value", shown, field.rows) if shown else m.muted("No value.")
    return m.tag("div", m.tag("h3", m.said(field.name)), m.muted(words) if words else "", table)


def _failures(report: Report) -> Html:
    found: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for kind in report.kinds.values():
        if failed := kind.lines - kind.superseded:
            words = in_words(kind.code, kind.status)
            found[words] += failed
            example.setdefault(words, kind.custom_id)
    if not found:
        return Html("")
    rows = [
        (_sentence(what), _sentence(do), f"{count:,}", m.said(example[what, do], 40))
        for (what, do), count in sorted(found.items(), key=lambda each: (-each[1], each[0]))
    ]
    head: Sequence[str] = ["What happened", "What to do", "Rows", "Such as"]
    return m.section("Rows that failed", m.table("wwnw", head, rows))


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
