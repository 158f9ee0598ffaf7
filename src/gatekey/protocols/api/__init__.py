"""The REST API without sockets: routes as data (`table`), what they take and give (`shapes`), and the one door in front of them (`gate`)."""
