"""The answers that a sweep gives: sums over the table of its outcomes. Pure: no clock, disk, tracker or torch."""
