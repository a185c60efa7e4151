"""The page of a store's counts: charts of a day, for a person in front of a browser."""
