"""Class-balanced selection: every class gets the same number of images, however many queries it has.

Within a class the images are spread over its queries in rounds (see `query_balanced`); what one of them can't
fill goes to the others of the class. The quotas come from `quotas.plan_class_quotas`. With one class, or the
same number of queries in all, it asks of each query what query-balanced asks.
"""

from curate.selection.query_balanced import assign
from curate.selection.request import Assignment, Request


def class_balanced(request: Request) -> Assignment:
    """Fill every query's quota in rounds, then every class's.

    With `request.topup` what a class can't fill goes to all queries.
    """
    return assign(request, request.lists, by_class=True)
