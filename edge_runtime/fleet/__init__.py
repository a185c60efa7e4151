"""The device's end of a fleet: its topics, its link to the broker, commands, reports and enrolment."""
