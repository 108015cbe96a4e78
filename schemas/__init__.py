"""What records, tables, event types, reasons and stream definitions are. Nothing here knows Beam."""
