from distill.loop.ledger import Ledger


def test_costs_add_up_and_survive_json() -> None:
    ledger = Ledger()
    ledger.add("teacher", 4, 1.5, 10.0)
    with ledger.timed("teacher", 2, 1.0):
        pass
    again = Ledger.from_dict(ledger.to_dict())
    assert again == ledger and again.stages["teacher"].images == 6
    assert again.stages["teacher"].flops == 11.0 and again.stages["teacher"].seconds >= 1.5
