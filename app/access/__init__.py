"""Who may ask this proxy: decided from what is known of a request, before any registry is asked."""
