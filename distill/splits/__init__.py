"""Labelled splits are looked over before anything learns from them: copies, exact and near, and mistakes.

facts.py       one look at every image: item id, sketch, perceptual hash; kept between commands
suspects.py    pairs that might be near copies, cheaply
overlap.py     what was found, and the set without it
search.py      images → facts → suspects → confirmed on pixels
page.py        the findings as pictures
checked.py     what adapt, train, label and finetune call
"""
