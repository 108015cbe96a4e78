"""The demonstration that ``make stream-demo`` shows: a live fleet, the live job, three streams, servers of its own."""
