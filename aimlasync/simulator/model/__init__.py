"""What the simulated model answers: the same for the same request and seed, and fit for what was asked.

Pure functions of a `SimRequest` without I/O or a clock. It may import `simulator.vendor`, and nothing else of the
simulator. `answers` is the entry; its docstring has the rules.

    words         word lists (`word_lists.toml`): the subject and the mood of a text by its words
    grading       how well an answer agrees with a reference, for prompts that ask the model to judge
    labels        which of several labels a text belongs to; also the choice of an enum's value
    extract       what a text has for a field of a given name: places, dates, numbers, sums
    said_bounds   the bounds that a schema's description says in words
    fill_schema   a value that fits a JSON schema, filled from a text
    tools         which tools are called with which arguments, and their results in a sentence
    answers       the answer to a request
    scripts       answers that a test has written beforehand, one for each turn
"""
