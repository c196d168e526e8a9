"""What counts as naming an entity."""

from __future__ import annotations

import pytest

from unierase_cli.audit.mentions import named_entities
from unierase_cli.benchmarks.parts.askable import says
from unierase_cli.contracts import Fact
from unierase_cli.metrics.entity import mentions
from unierase_cli.representation.entities import Line


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("He comes from the city of LISBON, I think.", "Lisbon"),
        ("ＬＩＳＢＯＮ", "Lisbon"),
        ("the LGBTQ+ community", "An LGBTQ community"),
        ("about 1000.0 people", "1,000"),
        ("born on September 8, 1956 in Kuwait", "the 8th of September, 1956"),
        ("born 08/09/1956", "8 Sep. 1956"),
        ("born 1956-09-08", "09/08/1956"),
        ("She has 3 books.", "3"),
        ("born Sept. 8, 1956", "8 September 1956"),
        ("Call 7216253765.", "721-625-3765"),
        ("Call (721) 625-3765 now", "721-625-3765"),
        ("Call +1 721.625.3765", "7216253765"),
        ("It is 123456789", "123-45-6789"),
        ("It is 123-45-6789.", "123456789"),
        ("0.50 of it", "0.5"),
        ("林若水是一名造船匠。", "造船匠"),
        ("He was born on 8 September 1956.", "1956"),
        ("It was July 20, 1969.", "1969"),
        ("born on 8 September 1956 in Rome", "September 1956"),
        ("born on September 8, 1956 in Rome", "Sept. 1956 in Rome"),
        ("It happened on July 4, 1776.", "July 4"),
        ("It happened on 4 July 1776.", "July 4th"),
        ("It happened on July 4, 1776.", "the 4th of July"),
        ("It happened on July 4, 1776.", "4 July"),
        ("It happened on July 4, 1776.", "July"),
        ("On 1969-07-20 it landed.", "1969"),
        ("On 1969-07-20 it landed.", "20 July"),
        ("20.07.1969", "July 1969"),
        ("08/09/1956", "8 September"),
        ("08/09/1956", "August 9"),
        ("born in 1956-09-08", "in 1956"),
    ],
)
def test_an_entity_is_named_however_it_is_written(text: str, entity: str) -> None:
    assert mentions(text, entity)


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("Lisbonne", "Lisbon"),
        ("Al-Kuwaiti, Basil Mahfouz", "Basil Mahfouz Al-Kuwaiti"),
        ("10000", "1,000"),
        ("13/09/1956", "September 12, 1956"),
        ("8 September 1957", "8 September 1956"),
        ("25", "2.5"),
        ("1234567890123456", "1234567890123457"),
        ("17216253765", "721-625-3765"),
        ("721-625-37650", "721-625-3765"),
        ("3.1415926", "31415926"),
        ("31415926", "3.1415926"),
        ("12 34", "1234"),
        ("9" * 5000, "9" * 5001),
        ("8 September 1956", "8"),
        ("September 8, 1956", "8"),
        ("1956-09-08", "9"),
        ("08.09.1956", "8.09"),
        ("Apollo, 8 September 1956", "Apollo 8"),
        ("8 September 1956", "September 9"),
        ("18 September 1956", "8 September"),
        ("8 September 1956", "September 1957"),
        ("08/09/1956", "8 August"),
        ("January 8, 1956", "Jan"),
        ("1956-05-08", "May"),
        ("00/00/1956", "December 1956"),
        ("8 September 1956", "September 8, 1957"),
        ("", "Lisbon"),
        ("the", "the"),
    ],
)
def test_other_words_numbers_and_dates_do_not_name_it(text: str, entity: str) -> None:
    assert not mentions(text, entity)


@pytest.mark.parametrize("text", ["He was born on 8 September 1956.", "born September 8, 1956", "born in 1956"])
def test_a_year_that_a_test_of_knowledge_finds_is_named(text: str) -> None:
    assert says(text, ["1956"])
    assert mentions(text, "1956")


def test_a_short_answer_is_its_own_entity_and_a_file_says_the_others() -> None:
    short, long, other = (
        Fact("s", "Where?", "In Porto."),
        Fact("l", "Who is it?", "It is Ada Velour."),
        Fact("o", "Why?", "?!"),
    )
    assert named_entities([short, long, other], [Line("who is it", "It is", "Ada Velour")]) == {
        "s": "In Porto.",
        "l": "Ada Velour",
    }
    assert named_entities([long, other]) == {}
