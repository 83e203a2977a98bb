"""The Butler: a sink that writes the visits of the tables into a Butler registry.

Only `consumer.butler.registry` imports ``lsst.daf.butler``, which is the extra ``butler``.
"""
