"""From images to a store (``stimuli``, ``scanning``), and from a store to answers (``asking``)."""
