from sommelier.doctor.finding import Finding, Verdict, counted, facts, faults, of_error, summary

GOOD = Finding(what="catalog", seen="60 items", counts={"items": 60})
ADVICE = Finding(what="spaces", seen="1 unused", repair="sommelier compact", is_advice=True)
FAULT = Finding(what="index", seen="stale", repair="sommelier index")


def test_a_finding_without_a_repair_is_good_and_advice_is_no_fault() -> None:
    assert [one.verdict for one in (GOOD, ADVICE, FAULT)] == [
        Verdict.GOOD,
        Verdict.ADVICE,
        Verdict.FAULT,
    ]
    assert faults([GOOD, ADVICE, FAULT]) == [FAULT]


def test_the_table_marks_what_needs_repair() -> None:
    shown = summary([GOOD, ADVICE, FAULT])
    assert shown.title == "1 of 3 findings need repair"
    assert [row[0] for row in shown.rows] == ["✓", "·", "✗"]
    assert summary([GOOD, ADVICE]).title == "All is well"


def test_monitoring_gets_verdicts_and_numbers() -> None:
    assert facts([GOOD]) == {
        "is_well": True,
        "findings": [
            {
                "what": "catalog",
                "verdict": "good",
                "seen": "60 items",
                "repair": "",
                "counts": {"items": 60},
            }
        ],
    }
    assert facts([GOOD, FAULT])["is_well"] is False


def test_numbers_that_are_zero_are_not_told() -> None:
    assert counted({"fresh": 1200, "stale": 0, "missing": 3}) == "1,200 fresh, 3 missing"
    assert counted({"fresh": 0}) == "nothing"


def test_an_error_of_a_library_names_its_kind_and_a_backup() -> None:
    own = of_error("index", ValueError("it is gone"), repair="sommelier index")
    assert (own.seen, own.repair) == ("it is gone", "sommelier index")
    other = of_error("index", RuntimeError("no magic bytes in x"), repair="sommelier index")
    assert other.seen == "RuntimeError: no magic bytes in x"
    assert "backup" in other.repair
