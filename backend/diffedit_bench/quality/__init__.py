"""What `diffedit bench quality` is made of: cases, editors, metrics, and the report. Importing this package needs no
torch.

The way of a figure: `cases` give pictures with known truth, `editors` edit them, `score` turns one edit into one row
of numbers with `metrics`, `rows` keeps the rows in a file, `report` takes means with bootstrap intervals, `plots` and
`sheets` draw.
"""
