"""Long work as a list of shards of training examples: each a pure function of the problem, and a committed block.

`attributing` makes scores so, in a store (`upweight.store`), by whatever executor (`upweight.executors`). `description`
says what a store's blocks belong to, and refuses to mix them with others; `parts` are what shards add up to; `run` is
the loop. Whatever kills it, the next call goes on after the last committed shard, to the same bytes.
"""
