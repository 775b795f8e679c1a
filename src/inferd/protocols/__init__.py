"""Front ends: translate in, call a plane, translate back. They see nothing below the planes."""
