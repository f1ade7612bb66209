"""What frozen feature maps know of every pixel: its class, how far it is, which way its surface looks."""
