"""What a build is made of: its plan and work, the processes that share it, their parts, and its end."""
