"""What operators do with visits, dead letters and positions, one module for each subject.

Each function takes settings or adapters and gives values; `consumer.commands` prints them.
"""
