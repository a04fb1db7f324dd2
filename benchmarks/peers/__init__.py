"""The peers, as their users would write the same work. One module for each; a library is imported only here."""
