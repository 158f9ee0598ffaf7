"""Work that comes round by itself: fresh CRLs, reminders, clean-up. Each job runs once, however many processes there are."""
