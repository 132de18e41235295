"""Where fine-tuning runs when it does not run in this process. Each runner is a ``TrainModel``, as the local engine is.

What runs is data (:mod:`.stock` for NeMo's own script, :mod:`.package` for this package elsewhere); where it runs is a
host (:mod:`.hosts` for this machine and those behind ssh, :mod:`.brev` for a rented one); :mod:`.staging` lays out the
one folder that both share.
"""
