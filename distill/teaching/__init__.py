"""What teaches a student: targets for the images of a batch.

teaching.py    what a run needs to know of its teacher, whichever it is
online.py      a teacher that is asked while the student trains
stored.py      what `distill label` has stored
combined.py    several of these, averaged or each with a head
opened.py      from options to one of them
feed.py        batches with their targets, for the loop
"""
