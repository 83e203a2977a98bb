"""Header to exposure record, by the translator of the instrument or by its header map."""

from consumer.sources.model import Header, SourceRecord


class Translator:
    """Translates headers; exposure fields once per exposure where their cards are equal."""

    def translate(self, header: Header, uri: str) -> SourceRecord:
        """Make the record of one raw.

        Parameters
        ----------
        header
            As `read_header` returns it; not changed.
        uri
            The raw's, for the record and for errors.

        Raises
        ------
        RejectedError
            No translator knows the header, or a field cannot be made of it; names the keyword.
        """
        raise NotImplementedError
