"""What people do with their own likeness. Each module lists its routes in `ROUTES`."""
