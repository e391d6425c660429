"""Pages of HTML that need nothing but themselves: what a recording holds, and what an evaluation found."""
